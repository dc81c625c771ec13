"""What PyTorch (where it is not there, cuBLASLt) reaches on this card with copies, reads and products of the shapes of
Qwen2.5-3B: the figures' ceilings.

    ceilings.py WORK        writes WORK/ceilings.json, adds to WORK/figures.tsv; GPU_DRY=1: numbers of nobody
"""

import json
import os
import shlex
import subprocess
import sys

import figures
from random_model import VOCABULARY

try:
    import torch
    torch = torch if torch.cuda.is_available() else None
except ImportError:
    torch = None


def by_qgrpo(shape):
    """Name, multiprocessors, rate of copies, rates of products by shape, for a machine without PyTorch: the driver's copies and
    cuBLASLt's products, timed by `qgrpo bench ceilings`."""
    command = shlex.split(os.environ["QGRPO_BENCH"]) + ["bench", "ceilings", "--device", "cuda", "--shape", shape, "--json"]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    copy, products = 0.0, {}
    for row in found["rows"]:
        if row["flops"]:
            _, n, k = row["shape"].split(" x ")
            products[f"{n}x{k}"] = row["flops"] / row["median_seconds"]
        else:
            copy = row["bytes"] / row["median_seconds"]
    return found["device"], found["multiprocessors"], copy, products


def measure():
    shapes = [(4352, 2048, 2048), (4352, 11008, 2048), (4352, 2048, 11008), (4352, 256, 2048), (1024, VOCABULARY, 2048)]
    whose = "PyTorch" if torch or figures.DRY else "cuBLASLt"
    if figures.DRY:  # the same lines, with numbers of nobody
        by_qgrpo("bench")
        name, processors, copy, read = "rehearsal", 132, 1.0e12, 1.0e12
        products = {f"{n}x{k}": 1.0e14 for _, n, k in shapes}
    elif not torch:
        name, processors, copy, products = by_qgrpo("qwen2.5-3b")
        read = copy  # is not told from it there
    else:
        name = torch.cuda.get_device_name()
        processors = torch.cuda.get_device_properties(0).multi_processor_count

        def seconds(call, batch):
            """Of one call: the middle of seven replays of a recorded batch, so that launches cost nothing."""
            for _ in range(3):
                call()
            torch.cuda.synchronize()
            try:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    for _ in range(batch):
                        call()
                replay = graph.replay
            except RuntimeError as error:
                print("no graph:", error)
                replay = lambda: [call() for _ in range(batch)]
            times = []
            for _ in range(8):
                a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                a.record()
                replay()
                b.record()
                torch.cuda.synchronize()
                times.append(a.elapsed_time(b) * 1e-3 / batch)
            return sorted(times[1:])[3]
        x = torch.randn(1 << 30, device="cuda")
        y = torch.empty_like(x)
        size = x.numel() * 4
        copy = 2 * size / seconds(lambda: y.copy_(x), 4)
        read = size / seconds(lambda: x.sum(), 4)
        del x, y
        products = {}
        for m, n, k in shapes:
            a = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
            b = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
            c = torch.empty(m, n, device="cuda", dtype=torch.bfloat16)
            products[f"{n}x{k}"] = 2.0 * m * n * k / seconds(lambda: torch.mm(a, b.t(), out=c), 10)
    write(name, processors, copy, read, products, shapes, whose)


def write(name, processors, copy, read, products, shapes, whose):
    try:
        sm_mhz = float(os.popen("nvidia-smi --query-gpu=clocks.max.sm --format=csv,noheader,nounits").read().split()[0])
    except (IndexError, ValueError):
        sm_mhz = 1980.0
    json.dump({"name": name, "processors": processors, "sm_mhz": sm_mhz, "copy": copy, "read": read,
               "products": products}, open(figures.WORK + "/ceilings.json", "w"))
    figures.figure("copy of 4.3 GB, read and written", copy / 1e9, "GB/s", 4800, kind="rate")
    figures.figure("reading 4.3 GB (sum)", read / 1e9, "GB/s", 4800, kind="rate")
    for (m, n, k) in shapes:
        figures.figure(f"{whose} bf16 {m} x {n} x {k}", products[f"{n}x{k}"] / 1e12, "TFLOP/s", 989, kind="rate")
    print(f"{name}, {processors} multiprocessors, {sm_mhz:.0f} MHz at most")


if __name__ == "__main__":
    measure()
