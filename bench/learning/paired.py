#!/usr/bin/env python3
"""Two reports of `qgrpo eval` on the same questions, paired: what changed, and could it be chance?

  paired.py BEFORE.json AFTER.json

Of each report the adapter's greedy answers are compared, and with BEFORE's base where it has one. For each
test: how many of the questions pass before and after, those that only one of the two passes, the difference
with a 95 % bootstrap interval over questions, and McNemar's exact p.
"""
import json
import random
import re
import sys
from math import comb

FORMAT = re.compile(r"\s*<reasoning>.*?</reasoning>\s*<answer>.*?</answer>\s*$", re.S)
RESAMPLES = 10_000


def answers(path, policy):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    return [row[policy]["greedy"] for row in report["answers"] if policy in row]


def extracted(text):
    return text.split("<answer>")[-1].split("</answer>")[0].strip()


TESTS = {
    "right number": lambda a: bool(a["correct"]),
    "answer is digits alone": lambda a: extracted(a["text"]).isdigit(),
    "all four tags in order": lambda a: FORMAT.match(a["text"]) is not None,
    "ended before the limit": lambda a: a["finish_reason"] != "length",
}


def mcnemar(lost, won):
    """Two-sided exact p: of lost + won fair coins, a split at least as uneven."""
    n = lost + won
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(lost, won) + 1)) / 2**n) if n else 1.0


def interval(changes):
    rng = random.Random(1)
    n = len(changes)
    means = sorted(sum(rng.choices(changes, k=n)) / n for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def compare(title, before, after):
    if len(before) != len(after):
        sys.exit(f"{title}: {len(before)} and {len(after)} answers; both reports must ask the same questions")
    n = len(after)
    print(f"{title}, {n} questions")
    for name, test in TESTS.items():
        pairs = [(test(b), test(a)) for b, a in zip(before, after)]
        lost = sum(b and not a for b, a in pairs)
        won = sum(a and not b for b, a in pairs)
        low, high = interval([a - b for b, a in pairs])
        print(f"  {name:24s} {sum(b for b, _ in pairs):4d} -> {sum(a for _, a in pairs):4d}   lost {lost}, won {won}; "
              f"{100 * (won - lost) / n:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], p = {mcnemar(lost, won):.2g}")  # fmt: skip


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    base, before, after = answers(sys.argv[1], "base"), answers(sys.argv[1], "adapter"), answers(sys.argv[2], "adapter")
    if base:
        compare("base -> before", base, before)
        compare("base -> after", base, after)
    compare("before -> after", before, after)


if __name__ == "__main__":
    main()
