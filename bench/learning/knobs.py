#!/usr/bin/env python3
"""What each knob of GRPO does: small controlled runs on the built-in demo's model.

  bench/learning/knobs.py [--qgrpo build/qgrpo] [--out outputs/knobs] [--seeds 1 2 3]

For each seed the demo's model is made once (its cold start), and every setting trains from it: the
demo's own setting with one thing changed. The held-out questions are then answered greedily and by
sampling. Prints a markdown table: mean and range over the seeds. What is there is not run again.
"""
import argparse
import json
import os
import subprocess
import sys

# The demo's setting: train/demo/demo.cpp.
USUAL = {
    "quantize": "none", "system-prompt": "", "max-prompt-length": 96, "max-completion-length": 48,
    "num-generations": 8, "prompts-per-step": 16, "max-steps": 60, "temperature": 1, "beta": 0,
    "lora-r": 8, "lora-alpha": 16, "learning-rate": 2e-3, "weight-decay": 0, "max-grad-norm": 1,
    "warmup-ratio": 0, "optim": "adamw_torch", "save-steps": 0, "sample-steps": 0, "preflight": 0,
}  # fmt: skip

# What is changed, in the table's order.
KNOBS = [
    ("as the demo", {}),
    ("learning rate 2e-4", {"learning-rate": 2e-4}),
    ("learning rate 5e-4", {"learning-rate": 5e-4}),
    ("learning rate 5e-3", {"learning-rate": 5e-3}),
    ("learning rate 2e-2", {"learning-rate": 2e-2}),
    ("beta 0.04", {"beta": 0.04}),
    ("beta 1", {"beta": 1}),
    ("groups of 2 (64 prompts)", {"num-generations": 2, "prompts-per-step": 64}),
    ("groups of 4 (32 prompts)", {"num-generations": 4, "prompts-per-step": 32}),
    ("groups of 32 (4 prompts)", {"num-generations": 32, "prompts-per-step": 4}),
    ("8 completions a step (1 prompt)", {"prompts-per-step": 1}),
    ("at most 24 tokens", {"max-completion-length": 24}),
    ("temperature 0.5", {"temperature": 0.5}),
    ("advantages not scaled", {"scale-rewards": "none"}),
    ("format rewards alone", {"rewards": "xmlcount,strict_format,int"}),
]


def run(program, arguments, log):
    with open(log, "a", encoding="utf-8") as out:
        out.write("$ " + " ".join(map(str, arguments)) + "\n")
        out.flush()
        done = subprocess.run([program, *map(str, arguments)], stdout=out, stderr=out, check=False)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, arguments))}; see {log}")


def options(settings):
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


def evaluate(program, model, report, log, adapter=()):
    if not os.path.exists(report):
        run(program, ["eval", "--model", model, "--quantize", "none", "--system-prompt", "",
                      "--dataset", f"{model}/test.jsonl", "--max-completion-length", 64, "--maj", 4,
                      "--temperature", 1, "--output", report, *adapter], log)  # fmt: skip
    with open(report, encoding="utf-8") as file:
        results = json.load(file)["results"]
    own = results["adapter" if adapter else "base"]
    return 100 * own["greedy"]["accuracy"], 100 * own["maj"]["pass_at_1"], own["greedy"]["mean_length"]


def measure(program, out, seed, name, changed):
    model = f"{out}/model-{seed}"
    log = f"{out}/log.txt"
    if not os.path.exists(f"{model}/demo.json"):
        run(program, ["sft", "--make-demo-model", model, "--seed", seed], log)
    if changed is None:
        return evaluate(program, model, f"{out}/base-{seed}.json", log)
    run_folder = f"{out}/{name.replace(' ', '_')}-{seed}"
    settings = USUAL | changed
    adapter = f"{run_folder}/checkpoint-{settings['max-steps']}"
    if not os.path.exists(adapter):
        run(program, ["train", "--model", model, "--dataset", f"{model}/train.jsonl", "--seed", seed,
                      "--output-dir", run_folder, "--overwrite-output-dir", *options(settings)], log)  # fmt: skip
    return evaluate(program, model, f"{run_folder}.json", log, ["--adapter", adapter, "--no-base"])


def cell(values):
    low, high = min(values), max(values)
    return f"{sum(values) / len(values):.0f} ({low:.0f} to {high:.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--qgrpo", default="build/qgrpo")
    parser.add_argument("--out", default="outputs/knobs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = parser.parse_args()
    os.makedirs(given.out, exist_ok=True)
    print(f"Seeds {', '.join(map(str, given.seeds))}; mean (range).\n")
    print("| setting | right, greedy, % | right, sampled, % | tokens, greedy |")
    print("|---|---|---|---|")
    for name, changed in [("before GRPO", None), *KNOBS]:
        rows = [measure(given.qgrpo, given.out, seed, name, changed) for seed in given.seeds]
        print(f"| {name} | " + " | ".join(cell(column) for column in zip(*rows)) + " |", flush=True)


if __name__ == "__main__":
    main()
