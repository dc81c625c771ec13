"""Reward functions of the user's: what TRL's trainer and qgrpo make of the same ones.

Plain and async functions, None, columns, log_extra and log_metric. TRL's own _calculate_rewards is
called on a stand-in for its trainer; qgrpo scores the same completions with `grade`. Every reward
must be the same number (TRL keeps float32). Needs: torch transformers trl datasets

    python3 tools/peers/rewards.py build/qgrpo
"""

import asyncio
import importlib.util
import json
import math
import random
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

# This folder has scripts named like the packages that they check.
sys.path = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

REWARDS = '''
import asyncio

def length(completions, **kwargs):
    return [-0.001 * len(c[0]["content"]) for c in completions]

def right(prompts, completions, answer, **kwargs):
    assert all(p[-1]["role"] == "user" for p in prompts)
    return [2.0 if a in c[0]["content"] else 0.0 for c, a in zip(completions, answer)]

def only_hard(completions, level, completion_ids, **kwargs):
    return [len(ids) / 7 if l > 1 else None for ids, l in zip(completion_ids, level)]

async def judge(prompts, completions, log_extra, log_metric, **kwargs):
    await asyncio.sleep(0.01)
    log_extra("half", [len(c[0]["content"]) / 2 for c in completions])
    log_metric("judged", len(completions))
    return [None if len(c[0]["content"]) % 3 == 0 else 0.1 * len(p[-1]["content"])
            for p, c in zip(prompts, completions)]
'''
FUNCTIONS = ["length", "right", "only_hard", "judge"]


def examples():
    random.seed(1)
    out = []
    for i in range(48):
        out.append({
            "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "?" * (i % 5 + 1)}],
            "completion": "".join(random.choice("0123456789 \n\"é") for _ in range(random.randrange(9))),
            "completion_ids": [random.randrange(100) for _ in range(random.randrange(1, 9))],
            "answer": str(i % 10),
            "level": i % 3,
        })
    return out


def by_trl(functions, rows):
    from trl import GRPOTrainer

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu", is_main_process=False),
        args=SimpleNamespace(report_to=[]),
        reward_funcs=functions,
        reward_processing_classes=[None] * len(functions),
        reward_func_names=[f.__name__ for f in functions],
        state=SimpleNamespace(global_step=0, max_steps=0),
        environments=None,
        async_loop=loop,
        _pending_extra_logs=defaultdict(list),
        _pending_metrics=defaultdict(list),
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        model=SimpleNamespace(training=True),
    )
    trainer._log_completion_extra = lambda *a: GRPOTrainer._log_completion_extra(trainer, *a)
    trainer._log_metric = lambda *a: GRPOTrainer._log_metric(trainer, *a)
    inputs = [{k: v for k, v in r.items() if k not in ("completion", "completion_ids")} for r in rows]
    table = GRPOTrainer._calculate_rewards(
        trainer, inputs, [r["prompt"] for r in rows],
        [[{"role": "assistant", "content": r["completion"]}] for r in rows],
        [r["completion_ids"] for r in rows])
    return table.tolist()


def by_qgrpo(program, path, rows):
    rewards = [x for name in FUNCTIONS for x in ("--reward", f"{path}:{name}")]
    result = subprocess.run(
        [program, "grade", "--python", sys.executable, *rewards], text=True, check=True,
        input="".join(json.dumps(r) + "\n" for r in rows), capture_output=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def main():
    program = str(Path(sys.argv[1]).resolve())
    rows = examples()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peer_rewards.py"
        path.write_text(REWARDS)
        spec = importlib.util.spec_from_file_location("peer_rewards", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        theirs = by_trl([getattr(module, name) for name in FUNCTIONS], rows)
        ours = by_qgrpo(program, path, rows)
    assert len(theirs) == len(ours) == len(rows)
    compared = skipped = 0
    for their_row, our_row in zip(theirs, ours):
        total = 0.0
        for name, their_value in zip(FUNCTIONS, their_row):
            our_value = our_row[name]
            if math.isnan(their_value):
                assert our_value is None, (name, our_row)
                skipped += 1
                continue
            assert abs(our_value - their_value) <= 2e-7 * max(1.0, abs(their_value)), (name, our_row)
            total += our_value
            compared += 1
        assert abs(our_row["total"] - total) < 1e-12, our_row
    assert skipped > 10 and compared > 100
    print(f"rewards: {compared} values are TRL's, {skipped} skipped by both")


main()
