"""The reward `math` and math-verify 0.9 on the pairs of tests/vectors/rewards/math_pairs.json.

Each item of the table has a gold answer, a completion, math-verify's verdict, the right value, why
these differ where they do, and whether the reward `numeric` gives the right value too. This
recomputes math-verify's verdicts and qgrpo's rewards, demands those of the table and prints the
agreement. --write makes the table again: the pairs of math_pairs.txt and families with a fixed
seed. Needs: math-verify (0.9)

    python3 tools/peers/reward_math.py build/qgrpo [--write]
"""

import json
import random
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

# This folder has scripts named like the packages that they check.
sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

TABLE = Path(__file__).resolve().parents[2] / "tests/vectors/rewards/math_pairs.json"
HAND = Path(__file__).resolve().parent / "math_pairs.txt"
WRAPPERS = ["\\boxed{%s}", "We get $\\boxed{%s}$.", "So the final answer is $%s$.",
            "Let us see: $1 + 1 = 2$. Hence \\[\\boxed{%s}\\]"]


def hand():
    """(gold, completion, right, why, whether `numeric` gives the same)"""
    boxed = False
    for line in HAND.read_text().splitlines():
        if line.startswith("# "):
            boxed = boxed or "boxed" in line
            continue
        right, rest = line.replace("⏎", "\n").split("|", 1)
        if rest.count("|") > 2:  # an absolute value
            gold, completion = ("|-5|", "5") if rest.startswith("|") else ("\\sqrt{x^2}", "|x|")
            why = []
        else:
            gold, completion, *why = rest.split("|")
        if boxed:
            completion = "\\boxed{%s}" % completion
        yield gold, completion, bool(int(right)), why[0] if why else "", not boxed


def grouped(n, mark):
    return f"{n:,}".replace(",", mark)


def families(rng):
    """Pairs (gold, answer, right, why math-verify is wrong)."""
    for _ in range(30):  # fractions in other spellings and their parts
        a, b = rng.randrange(1, 60), rng.randrange(2, 60)
        k = rng.randrange(2, 6)
        gold = "\\frac{%d}{%d}" % (a, b)
        yield gold, "\\frac{%d}{%d}" % (a * k, b * k), True, ""
        yield gold, f"{a}/{b}", True, ""
        yield gold, "\\dfrac{%d}{%d}" % (a, b), True, ""
        yield gold, str(b), a == b * b, ""
        yield gold, "\\frac{%d}{%d}" % (b, a), a == b, ""
        yield gold, "-\\frac{%d}{%d}" % (a, b), False, ""
    for _ in range(25):  # thousands and their last group
        n = rng.randrange(1001, 9_999_999)
        last = str(n % 1000)
        for mark in (",", "{,}", ",\\!"):
            yield grouped(n, mark), str(n), True, ""
            yield str(n), grouped(n, mark), True, ""
            yield grouped(n, mark), last, False, ""
    for _ in range(25):  # roots
        a, b = rng.randrange(2, 12), rng.choice([2, 3, 5, 6, 7, 10, 11, 13])
        gold = "%d\\sqrt{%d}" % (a, b)
        yield gold, "\\sqrt{%d}" % (a * a * b), True, ""
        yield gold, "\\sqrt{%d}\\cdot %d" % (b, a), True, ""
        yield gold, str(a), False, ""
        yield gold, str(b), False, ""
    for _ in range(20):  # powers
        a, b = rng.randrange(2, 9), rng.randrange(3, 9)
        gold = "%d^{%d}" % (a, b)
        yield gold, str(a**b), True, ""
        yield gold, str(a), False, ""
        yield gold, str(b), a**b == b, ""
    for _ in range(20):  # points
        a, b = rng.randrange(-9, 10), rng.randrange(-9, 10)
        gold = "(%d,%d)" % (a, b)
        yield gold, "\\left(%d, %d\\right)" % (a, b), True, ""
        yield gold, "(%d,%d)" % (a + 1, b), False, ""
        yield gold, str(b), False, ""
    for _ in range(15):  # polynomials
        r, s = rng.randrange(1, 9), rng.randrange(1, 9)
        expanded = "x^2+%dx+%d" % (r + s, r * s)
        factored = "(x+%d)(x+%d)" % (r, s)
        yield expanded, factored, True, ""
        yield factored, expanded, True, ""
        yield expanded, str(r * s), False, ""
        yield expanded, "(x+%d)(x+%d)" % (r, s + 1), False, ""
    for _ in range(15):  # percents and decimals
        p = rng.randrange(1, 100)
        yield "%d\\%%" % p, str(p), True, ""
        yield "%d\\%%" % p, str(p / 100), True, ""
        yield "%d\\%%" % p, str(p + 1), False, ""
    for _ in range(15):  # units, money, degrees
        n = rng.randrange(2, 500)
        unit = rng.choice(["cm", "meters", "dollars", "square units", "hours", "feet"])
        yield str(n), "%d \\text{ %s}" % (n, unit), True, ""
        yield "%d\\text{ %s}" % (n, unit), str(n + 1), False, ""
        yield "\\$%d.50" % n, str(n) + ".5", True, ""
    for _ in range(15):  # assignments
        n = rng.randrange(-50, 50)
        yield str(n), "x = %d" % n, True, ""
        yield "x=%d" % n, str(n), True, ""
        yield "x=%d" % n, str(n + 1), False, ""
    for _ in range(12):  # intervals
        a, b = sorted(rng.sample(range(-20, 20), 2))
        yield "[%d,%d)" % (a, b), "[%d, %d)" % (a, b), True, ""
        yield "[%d,%d)" % (a, b), "(%d,%d]" % (a, b), False, ""
        yield "[%d,%d)" % (a, b), str(b), False, ""
    for _ in range(12):  # scientific notation
        m, e = rng.randrange(11, 99) / 10, rng.randrange(2, 7)
        yield "%s \\times 10^{%d}" % (m, e), str(round(m * 10**e)), True, "decimals are exact, not floats"
        yield "%s \\times 10^%d" % (m, e), str(m), False, ""
        yield "%s \\times 10^{%d}" % (m, e), "10", m * 10**e == 10, ""


def pairs():
    rng = random.Random(20261130)
    seen = set()
    for i, (gold, answer, right, why) in enumerate(families(rng)):
        if (gold, answer) in seen:
            continue
        seen.add((gold, answer))
        yield gold, WRAPPERS[i % len(WRAPPERS)] % answer, right, why, False


def verdict(gold, completion):
    from math_verify import parse, verify

    return bool(verify(parse("$" + gold + "$", parsing_timeout=60), parse(completion, parsing_timeout=60),
                       timeout_seconds=60))


def by_qgrpo(program, rows):
    lines = "".join(json.dumps({"completion": r["completion"], "answer": r["gold"]}) + "\n" for r in rows)
    result = subprocess.run([program, "grade", "--reward", "math"], input=lines, text=True, check=True,
                            capture_output=True)
    return [json.loads(line)["math"] == 1.0 for line in result.stdout.splitlines()]


def main():
    assert version("math-verify").startswith("0.9"), version("math-verify")
    program = str(Path(sys.argv[1]).resolve())
    if "--write" in sys.argv:
        table = []
        for gold, completion, right, why, numeric in [*hand(), *pairs()]:
            theirs = verdict(gold, completion)
            row = {"gold": gold, "completion": completion, "math_verify": theirs, "right": right}
            row["numeric"] = numeric
            if theirs != right:
                row["reason"] = why
            table.append(json.dumps(row))
        TABLE.write_text("[" + ",\n".join(table) + "]\n")
    rows = json.loads(TABLE.read_text())
    for row in rows:
        assert verdict(row["gold"], row["completion"]) == row["math_verify"], row
        assert row["right"] == row["math_verify"] or row["reason"], row
    for row, ours in zip(rows, by_qgrpo(program, rows), strict=True):
        assert ours == row["right"], row
    agree = sum(r["right"] == r["math_verify"] for r in rows)
    print(f"math: {len(rows)} pairs, {agree} verdicts are math-verify's, {len(rows) - agree} differ for a reason")


if __name__ == "__main__":
    main()
