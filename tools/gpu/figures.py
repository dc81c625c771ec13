"""Figures from the logs of a run of tools/gpu/run, and the table at its end. Standard library only.

    figures.py COMMAND [ARGUMENTS..]      $GPU_WORK: the folder of figures.tsv; GPU_DRY=1: a rehearsal
"""

import csv
import json
import os
import re
import sys

from random_model import SHAPES, VOCABULARY

WORK = os.environ["GPU_WORK"]
DRY = os.environ.get("GPU_DRY", "0") == "1"
HERE = os.path.dirname(os.path.abspath(__file__))


def figure(name, measured, unit, ceiling="", predicted="", kind="time"):
    """kind: time (less is better), rate (more is better), value (no ratio)."""
    def number(x):
        return x if isinstance(x, str) else f"{x:.4g}" if abs(x) < 1e4 else f"{x:.0f}"
    with open(WORK + "/figures.tsv", "a") as f:
        f.write("\t".join([name, number(measured), unit, number(ceiling), number(predicted), kind]) + "\n")


def figures():
    rows = [line.rstrip("\n").split("\t") for line in open(WORK + "/figures.tsv")]
    return [row for row in rows if len(row) == 6]


def table():
    print("\n## Figures\n\n| figure | measured | ceiling | predicted | share of the ceiling |\n|---|--:|--:|--:|--:|")
    for name, measured, unit, ceiling, predicted, kind in figures():
        share = ""
        try:
            m, c = float(measured), float(ceiling)
            share = f"{100 * (c / m if kind == 'time' else m / c):.0f} %" if kind != "value" and m and c else ""
        except ValueError:
            pass
        def cell(x):
            return f"{x} {unit}".strip() if x else ""
        print(f"| {name} | {cell(measured)} | {cell(ceiling)} | {cell(predicted)} | {share} |")
    print("\nCeilings: of copies and products by PyTorch on this card. Predicted: the longest of bytes, instructions and"
          "\nproducts that the software GPU counted, at these rates, and 2 us a launch; memory: `qgrpo plan`.")


class Rates:
    """Measured ceilings where stage 0 has them, else the H200's data sheet with what is usual of it."""
    def __init__(self):
        self.copy, self.read, self.tflops, self.shapes = 4300e9, 4300e9, 780e12, {}
        self.instructions = 132 * 4 * 1.98e9
        try:
            found = json.load(open(WORK + "/ceilings.json"))
        except (OSError, ValueError):
            return
        self.copy, self.read = found["copy"], found["read"]
        self.shapes = found["products"]
        self.tflops = max(self.shapes.values())
        self.instructions = found["processors"] * 4 * 1e6 * found["sm_mhz"]

    def product(self, n, k):
        return self.shapes.get(f"{n}x{k}", self.tflops)


# ---------------------------------------------------------------- training

def lines_of(path):
    try:
        return [json.loads(line) for line in open(path)]
    except (OSError, ValueError):
        return []


LAUNCH = 2.0e-6  # a kernel of a graph: from the one before, its first loads, its last stores


def counts(rows):
    """operator: (launches, predicted seconds) at the rates of this card, of what bench/counts.tsv has for 132 multiprocessors."""
    rates, found = Rates(), {}
    for line in open(HERE + "/counts.tsv"):
        words = line.rstrip("\n").split("\t")
        if len(words) != 15 or words[:2] != ["132", str(rows)]:
            continue
        launches, _, instructions, integer, _, special, requests, conflicts, unique, flops = (int(w) for w in words[5:])
        cycles = max(instructions, 2 * integer, 8 * special, 4 * (requests + conflicts))
        seconds = launches * LAUNCH + max(unique / rates.read, cycles / rates.instructions, flops / rates.tflops)
        before = found.get(words[2], (0, 0.0))
        found[words[2]] = (before[0] + launches, before[1] + seconds)
    return found


def token_sum(of_operator, blocks):
    """A decode step of all blocks, from one figure an operator."""
    try:
        block = 2 * of_operator["decode_rmsnorm"] + sum(of_operator["decode_" + name] for name in (
            "qkv", "rope_kv_write", "attention", "o", "gate_up", "down"))
        return blocks * block + of_operator["decode_rmsnorm"] + of_operator["decode_head_sample"]
    except KeyError:
        return ""


def train(folder, shape, label, prompts):
    steps = lines_of(folder + "/metrics.jsonl")
    if not steps:
        print(f"{label}: no metrics")
        return
    hidden, blocks, heads, kv_heads, size, wide, _ = SHAPES[shape]
    rates, group, q, kv = Rates(), (2 if DRY else 8) * prompts, heads * size, kv_heads * size
    matrices = [(q, hidden), (kv, hidden), (kv, hidden), (hidden, q), (wide, hidden), (wide, hidden), (hidden, wide)]
    lora = sum(64 * (n + k) for n, k in matrices)
    weights = blocks * sum(n * k for n, k in matrices)
    length = max(s.get("completions/mean_length", 0) for s in steps)
    # num_tokens counts a prompt once a completion, and all steps so far.
    prompt = max(steps[-1].get("num_tokens", 0) / len(steps) / group - length, 0.0)
    # Sampling: a token of all sequences reads weights (NF4 with its scales: 4.127 bits), head, LoRA and the cache.
    key_value = blocks * 2 * kv * 2
    token_bytes = weights * 0.5159 + VOCABULARY * hidden * 2 + blocks * lora * 2 + key_value * (
        prompts * prompt + group * length / 2)
    sampling_floor = length * token_bytes / rates.read
    # Training: policy, reference and the gradient of the inputs, once each; the gradients of LoRA are left out.
    rows = prompts * prompt + group * length
    products = blocks * sum(2.0 * rows * n * k / rates.product(n, k) for n, k in matrices) + blocks * 2.0 * rows * lora / rates.tflops
    head = 2.0 * group * length * VOCABULARY * hidden / rates.product(VOCABULARY, hidden)
    training_floor = 3 * (products + head)
    by_operator = {name: seconds for name, (_, seconds) in counts(8).items()} if shape == "3b" and prompts == 1 else {}
    token_predicted = token_sum(by_operator, blocks) if by_operator else ""
    print("\n| step | sampling s | training s | step s | tokens/s sampled | log-prob difference mean | max | grad norm | KL | entropy | reward |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for s in steps:
        tokens = s.get("completions/mean_length", 0) * group
        sampling = s.get("step_time/sampling", 0)
        print("| {} | {:.3f} | {:.3f} | {:.3f} | {:.0f} | {:.3g} | {:.3g} | {:.3g} | {:.3g} | {:.3g} | {:.4g} |".format(
            s.get("step"), sampling, s.get("step_time/training", 0), s.get("step_time", 0), tokens / sampling if sampling else 0,
            s.get("sampling/sampling_logp_difference/mean", float("nan")), s.get("sampling/sampling_logp_difference/max", float("nan")),
            s.get("grad_norm", float("nan")), s.get("kl", float("nan")), s.get("entropy", float("nan")), s.get("reward", float("nan"))))
    print()
    later = steps[1:] or steps  # the first one takes memory, compiles and records graphs

    def middle(key):
        values = sorted(s.get(key, 0.0) for s in later)
        return values[len(values) // 2]
    sampling, training = middle("step_time/sampling"), middle("step_time/training")
    figure(f"{label}: sampling of a step", sampling, "s", sampling_floor, length * token_predicted if token_predicted else "")
    figure(f"{label}: a token of all rows", 1e6 * sampling / max(length, 1), "us", 1e6 * token_bytes / rates.read,
           1e6 * token_predicted if token_predicted else "")
    figure(f"{label}: training of a step", training, "s", training_floor)
    figure(f"{label}: a step", middle("step_time"), "s", sampling_floor + training_floor)
    figure(f"{label}: tokens sampled", group * length / sampling if sampling else 0, "/s",
           group * length / sampling_floor if length else "", kind="rate")
    figure(f"{label}: log-prob difference, mean", max(s.get("sampling/sampling_logp_difference/mean", 0) for s in steps), "",
           kind="value")
    figure(f"{label}: log-prob difference, max", max(s.get("sampling/sampling_logp_difference/max", 0) for s in steps), "",
           kind="value")


def equal(a, b, steps, label):
    """Whether the first `steps` steps of two runs, or as many as both have done, have the same completions and metrics."""
    steps = min(steps, *(len(lines_of(folder + "/metrics.jsonl")) for folder in (a, b)))
    def cut(folder):
        completions = [s for s in lines_of(folder + "/completions.jsonl") if s["step"] <= steps]
        metrics = [{k: v for k, v in s.items() if not k.startswith(("step_time", "tokens_per_second", "speed_of_light"))}
                   for s in lines_of(folder + "/metrics.jsonl") if s["step"] <= steps]
        return completions, metrics
    (ca, ma), (cb, mb) = cut(a), cut(b)
    if not ca or len(ca) != len(cb):
        verdict = f"cannot be compared: {len(ca)} and {len(cb)} completions"
    else:
        unequal = [i for i, (x, y) in enumerate(zip(ca, cb)) if x != y]
        verdict = f"{len(ca)} completions of {steps} steps equal" if not unequal else (
            f"DIFFER: {len(unequal)} of {len(ca)} completions, the first in step {ca[unequal[0]]['step']}")
        names = sorted({k for x, y in zip(ma, mb) for k in x if x.get(k) != y.get(k)})
        verdict += "; metrics equal" if not names and len(ma) == len(mb) else f"; metrics DIFFER in {', '.join(names[:6])}"
    print(f"- {label}: {verdict}")
    figure(label, "equal" if "DIFFER" not in verdict and "cannot" not in verdict else verdict.split(";")[0], "", kind="value")


def memory(log, plan, label):
    used, total = 0.0, ""
    for line in open(log):
        try:
            used = max(used, float(line.split(",")[0]) / 1024 * 1.073741824)
        except ValueError:
            pass
    for line in open(plan):
        words = line.split()
        if words[:1] == ["total"]:
            total = float(words[1]) * {"KB": 1e-6, "MB": 1e-3, "GB": 1}.get(words[2], 1)
    if used:
        figure(f"{label}: device memory", used, "GB", "", total, kind="value")


# ---------------------------------------------------------------- operators and kernels

def rows_of(log):
    """The rows of `qgrpo bench --json`, whatever else was said."""
    for line in open(log):
        if line.startswith("{"):
            return json.loads(line).get("rows", [])
    return []


def ops(log, rows):
    rates, predicted, measured = Rates(), counts(rows), {}
    for row in rows_of(log):
        seconds, name = row["median_seconds"], row["name"]
        if row["table"] == "ceilings":
            products = row["flops"] > 0
            amount = row["flops"] / 1e12 if products else row["bytes"] / 1e9
            figure(f"{name}, {row['shape']}", amount / seconds, "TFLOP/s" if products else "GB/s", kind="rate")
            continue
        measured[name] = seconds
        floor = max(row["bytes"] / rates.read, row["flops"] / rates.tflops)
        # Training's operators are counted at fewer rows than they are timed at.
        expected = 1e6 * predicted[name][1] if name in predicted and name.startswith("decode") else ""
        figure(f"{name}, {row['shape']}", 1e6 * seconds, "us", 1e6 * floor, expected)
    total = token_sum(measured, 36)
    if total:
        expected = token_sum({name: seconds for name, (_, seconds) in predicted.items()}, 36)
        figure(f"a token of {rows} rows, operators added up", 1e6 * total, "us", "", 1e6 * expected if expected else "")
    print(f"{len(measured)} operators at {rows} rows")


NAMES = {"Duration": "us", "DRAM Throughput": "dram %", "Compute (SM) Throughput": "sm %", "Memory Throughput": "memory %",
         "L2 Cache Throughput": "L2 %", "Registers Per Thread": "registers", "Achieved Occupancy": "occupancy %",
         "Block Size": "threads", "Grid Size": "blocks", "No Eligible": "no warp ready %",
         "Warp Cycles Per Issued Instruction": "cycles/instr"}


def short(kernel):
    """few_rows_kernel<1, 1, 2, 1> of its whole signature."""
    head = re.sub(r"\((?:int|bool|unsigned int|long)\)", "", kernel.replace("(anonymous namespace)", "")).split("(")[0]
    found = re.search(r"(\w+)(<.*>)?$", head.replace("<unnamed>", ""))
    return found.group(0) if found else kernel


def ncu(path, label):
    launches = {}
    with open(path, errors="replace") as f:
        text = [line for line in f if line.startswith('"')]
    for row in csv.DictReader(text):
        name, unit, value = row.get("Metric Name"), row.get("Metric Unit", ""), row.get("Metric Value", "").replace(",", "")
        if name not in NAMES or (name == "Memory Throughput" and unit != "%"):
            continue
        try:
            number = float(value)
        except ValueError:
            continue
        if name == "Duration":
            number *= {"ns": 1e-3, "nsecond": 1e-3, "us": 1, "usecond": 1, "ms": 1e3, "msecond": 1e3}.get(unit, 1)
        launches.setdefault((row["ID"], short(row["Kernel Name"])), {})[NAMES[name]] = number
    columns = list(dict.fromkeys(NAMES.values()))
    for (_, kernel), values in launches.items():
        print(f"| {label} | `{kernel[:60]}` | " + " | ".join(f"{values[c]:.5g}" if c in values else "" for c in columns) + " |")
    if not launches:
        print(f"| {label} | nothing profiled |" + " |" * len(columns))


def ncu_header():
    columns = list(dict.fromkeys(NAMES.values()))
    print("\n| operator | kernel | " + " | ".join(columns) + " |\n|---|---|" + "--:|" * len(columns))


if __name__ == "__main__":
    arguments = [int(a) if a.isdigit() else a for a in sys.argv[2:]]
    {"train": train, "equal": equal, "memory": memory, "ops": ops, "ncu": ncu, "ncu_header": ncu_header,
     "table": table}[sys.argv[1]](*arguments)
