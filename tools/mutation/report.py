"""docs/mutations.md: what was tried, and what became of it."""

import collections
import json
import os

BY_HAND, RANDOM = "## Bugs of the CUDA backend", "## Random mutants"
TITLE = "# Mutations and the test that notices each\n"


def write(path, heading, text):
    """Puts `text` under `heading` of a Markdown file; its other sections stay."""
    page = TITLE
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            page = file.read()
    start = page.find(heading + "\n")
    end = page.find("\n## ", start + 1) + 1 if start >= 0 else 0
    before, after = (page[:start], page[end:] if end else "") if start >= 0 else (page.rstrip("\n") + "\n\n", "")
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + heading + "\n\n" + text.rstrip("\n") + "\n" + ("\n" + after if after else ""))


def by_hand_section(rows):
    lines = ["Made by `tools/mutate --table`. Each line is a deliberate bug; the test is the first that fails with it.", "",
             "| mutation | file | noticed by |", "|---|---|---|"]
    return "\n".join(lines + [f"| {name} | `{where}` | {verdict} |" for name, where, verdict in rows])


def summary(records):
    """A line a folder and one for all, as a table."""
    counts = collections.defaultdict(collections.Counter)
    for record in records:
        for row in (record["file"].split("/")[0] + "/", "all"):
            counts[row][record["verdict"]] += 1
    lines = ["| folder | tried | noticed | survived | equivalent | noticed of those not equivalent |", "|---|---|---|---|---|---|"]
    for row in sorted(counts, key=lambda name: (name == "all", name)):
        noticed, survived, equivalent = (counts[row][v] for v in ("noticed", "survived", "equivalent"))
        rate = f"{100 * noticed / (noticed + survived):.1f} %" if noticed + survived else "-"
        lines.append(f"| {row} | {noticed + survived + equivalent} | {noticed} | {survived} | {equivalent} | {rate} |")
    return lines


def random_section(records, equivalents):
    records = list(records)
    lines = ["Made by `tools/mutate --random N --seed S --table`: changes made by rule, anywhere in these folders.", ""]
    lines += summary(records)
    survivors = [r for r in records if r["verdict"] == "survived"]
    if survivors:
        lines += ["", "Survivors:", ""]
        lines += [f"- `{r['file']}`: {_code(r['before'])} became {_code(r['after'])} ({r['by']})" for r in survivors]
    with open(equivalents, encoding="utf-8") as file:
        known = json.load(file)
    if known:
        lines += ["", "Equivalent, though the compiler makes other code of them (`tests/equivalent_mutants.json`):", ""]
        lines += [f"- `{e['file']}`: {_code(e['after'])}: {e['why']}" for e in known]
    return "\n".join(lines)


def _code(text):
    ticks = "``" if "`" in text else "`"
    return f"{ticks}{text}{ticks}"
