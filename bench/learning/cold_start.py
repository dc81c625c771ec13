#!/usr/bin/env python3
"""The last N short solutions of GSM8K's training file as conversations in the format of the rewards.

  cold_start.py TRAIN.jsonl N > conversations.jsonl
"""
import json
import re
import sys

SYSTEM = "\nRespond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n"
LONGEST = 420  # characters of a solution


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    short = [row for row in rows if len(row["answer"]) < LONGEST]
    for row in short[-count:]:
        solution, answer = row["answer"].split("####")
        solution = re.sub(r"<<.*?>>", "", solution).strip()
        answer = answer.strip().replace(",", "")
        text = f"<reasoning>\n{solution}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"
        messages = [("system", SYSTEM), ("user", row["question"]), ("assistant", text)]
        print(json.dumps({"messages": [{"role": r, "content": c} for r, c in messages]}))


if __name__ == "__main__":
    main()
