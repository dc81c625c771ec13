#!/usr/bin/env python3
"""--report-to against the real TensorBoard and the real wandb (offline), on short runs of the built-in model.

Usage: trackers.py QGRPO. Needs: tensorboard wandb.
"""
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 6


def wandb_records(content):
    """The records of a .wandb file: LevelDB's log format (blocks of 32 KiB) behind a header of 7 bytes."""
    block, at, parts = 32768, 7, []
    assert content[:4] == b":W&B", content[:7]
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts.append(content[at + 7:at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # a whole one, or the last part
            yield b"".join(parts)
            parts = []


def main(qgrpo):
    work = Path(tempfile.mkdtemp(prefix="qgrpo-peer-trackers-"))
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "QGRPO_PYTHON": sys.executable}

    def run(*arguments):
        done = subprocess.run([qgrpo, "train", *arguments], cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    try:
        # The demo makes a small model; a run of its own on it is what is looked at.
        run("--max-steps", "1", "--num-generations", "2", "--prompts-per-step", "2")
        demo = work / "outputs/demo"
        folder = work / "run"
        options = ["--model", str(demo / "model"), "--dataset", str(next(demo.rglob("train.jsonl"))), "--quantize", "none",
                   "--output-dir", str(folder), "--num-generations", "4", "--max-completion-length", "24",
                   "--system-prompt", "", "--save-steps", "4", "--report-to", "tensorboard,wandb"]
        text = run(*options, "--max-steps", str(STEPS))
        assert "warning: --report-to" not in text, text
        metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert len(metrics) == STEPS

        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder / "runs"))
        events.Reload()
        names = [n for n, v in metrics[0].items() if isinstance(v, (int, float)) and not isinstance(v, bool)]
        for name in names:
            found = {e.step: e.value for e in events.Scalars(f"train/{name}")}
            for line in metrics:
                if line.get(name) is not None:
                    assert math.isclose(found[line["step"]], line[name], rel_tol=1e-6, abs_tol=1e-30), (name, line["step"])
        assert "config" in events.Tags()["tensors"], events.Tags()
        print(f"  TensorBoard reads {len(names)} scalars of {STEPS} steps, each equal to metrics.jsonl in float32")

        # The folder's own configuration repeats the run.
        run("--config", str(folder / "config.toml"), "--output-dir", str(work / "again"), "--report-to", "none")
        again = [json.loads(line) for line in (work / "again/metrics.jsonl").read_text().splitlines()]
        differing = {k for a, b in zip(again, metrics) for k in a.keys() | b.keys() if a.get(k) != b.get(k)}
        differing = {name for name in differing if "time" not in name and "per_second" not in name}
        assert len(again) == len(metrics) and not differing, (differing, (folder / "config.toml").read_text())
        print("  --config RUN/config.toml repeats the run: the same numbers in each step")

        # From the checkpoint of step 4 again, on to 8: TensorBoard drops what the first part had from step 5 on.
        text = run(*options, "--max-steps", "8", "--resume", str(folder / "checkpoint-4"))
        events = EventAccumulator(str(folder / "runs"))
        events.Reload()
        steps = [e.step for e in events.Scalars("train/loss")]
        assert steps == list(range(1, 9)), steps
        print("  a resumed run goes on in TensorBoard without a step twice")

        from wandb.proto import wandb_internal_pb2
        seen = {}
        for path in sorted(folder.rglob("*.wandb")):
            for data in wandb_records(path.read_bytes()):
                record = wandb_internal_pb2.Record()
                record.ParseFromString(data)
                if record.WhichOneof("record_type") == "history":
                    items = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                    seen[int(items["train/global_step"])] = items["train/loss"]
        metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert seen == {line["step"]: line["loss"] for line in metrics}, (seen, len(metrics))
        print(f"  wandb, offline, has the losses of {len(seen)} steps")

        shadow = work / "shadow"
        (shadow / "wandb").mkdir(parents=True)
        (shadow / "wandb/__init__.py").write_text("raise ImportError('hidden')\n")
        environment["PYTHONPATH"] = str(shadow)
        text = run(*options[:-1], "wandb", "--max-steps", "1", "--overwrite-output-dir")
        assert text.count("warning: --report-to wandb") == 1 and "pip install wandb" in text, text
        print("  without wandb: one warning, and the run goes on")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
