"""Hands a run's metrics to Weights & Biases. qgrpo starts it where --report-to names wandb.

Reads JSON lines from standard input: first {"init": arguments of wandb.init}, then {"step": n, "log": {..}}; the
end of the input ends the run. Writes JSON lines to standard output: {"imported": version}, {"running": address},
{"error": text}. What wandb itself prints goes to the file that is standard error.
"""
import json
import os
import signal
import sys

# A Ctrl-C at the trainer ends the input here, after its last line.
signal.signal(signal.SIGINT, signal.SIG_IGN)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(**message):
    try:
        answers.write(json.dumps(message) + "\n")
        answers.flush()
    except OSError:  # nobody listens any more: the lines that came are still handed on
        pass


def main():
    try:
        import wandb

        if not hasattr(wandb, "init"):  # a folder of runs that is called wandb, taken for the module
            raise ImportError("it is no whole installation")
    except ImportError as problem:
        answer(error=f"Python's wandb cannot be imported ({problem}); pip install wandb")
        return 1
    answer(imported=str(getattr(wandb, "__version__", "unknown")))
    try:
        run = wandb.init(**json.loads(sys.stdin.readline())["init"])
        run.define_metric("train/global_step")
        run.define_metric("train/*", step_metric="train/global_step")
        answer(running=str(run.url or run.dir))
        for line in sys.stdin:
            message = json.loads(line)
            run.log({**message["log"], "train/global_step": message["step"]})
        run.finish()
    except Exception as problem:  # whatever wandb raises is its user's to read
        text = " ".join(str(problem).split())
        answer(error=f"{type(problem).__name__}: {text[:300]}")
        return 1
    return 0


sys.exit(main())
