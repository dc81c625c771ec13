"""qgrpo sft and qgrpo eval against TRL's SFTTrainer and scipy.

Needs: torch transformers trl datasets scipy

Full-parameter training of the built-in demo's model on the same conversations in the same order: the
losses of all steps agree with TRL's, with completions padded there and packed here. The intervals and
p-values of an evaluation's report agree with scipy.stats.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

# The scripts beside this one have names of packages that it imports.
sys.path.remove(str(pathlib.Path(__file__).resolve().parent))

PROGRAM = sys.argv[1]
STEPS, BATCH, RATE = 6, 8, 1e-4


def run(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def conversations(model):
    """STEPS * BATCH questions with good answers, as prompt and completion."""
    lines = [json.loads(line) for line in open(model / "train.jsonl")][: STEPS * BATCH]
    for line in lines:
        reasoning, answer = line["answer"].split("\n#### ")
        text = f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"
        yield {
            "prompt": [{"role": "user", "content": line["question"]}],
            "completion": [{"role": "assistant", "content": text}],
        }


def trl_losses(model, rows, folder):
    import datasets
    import torch
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer

    class InOrder(trl.SFTTrainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    config = trl.SFTConfig(
        output_dir=str(folder / "trl"), max_steps=STEPS, per_device_train_batch_size=BATCH,
        learning_rate=RATE, lr_scheduler_type="constant", logging_steps=1, report_to=[], bf16=False,
        use_cpu=True, gradient_checkpointing=False, save_strategy="no", optim="adamw_torch",
    )
    trainer = InOrder(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(model),
        args=config, train_dataset=datasets.Dataset.from_list(rows),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def check_losses(folder, model):
    rows = list(conversations(model))
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("sft", "--model", model, "--dataset", data, "--output-dir", folder / "sft", "--full",
        "--max-steps", STEPS, "--per-device-train-batch-size", BATCH, "--no-shuffle-dataset",
        "--learning-rate", RATE, "--lr-scheduler-type", "constant", "--save-steps", 0)
    ours = [json.loads(line)["loss"] for line in open(folder / "sft" / "metrics.jsonl")]
    theirs = trl_losses(model, rows, folder)
    print("losses, qgrpo:", [round(x, 5) for x in ours])
    print("losses, TRL:  ", [round(x, 5) for x in theirs])
    assert len(ours) == len(theirs) == STEPS
    # TRL's log has four decimals in some versions.
    assert all(abs(a - b) < 2e-4 for a, b in zip(ours, theirs)), "the losses differ"


def check_statistics(folder, model):
    from scipy.stats import binomtest

    report = folder / "report.json"
    run("eval", "--model", model, "--adapter", folder / "adapter" / "checkpoint-8", "--quantize",
        "none", "--dataset", model / "test.jsonl", "--limit", 64, "--system-prompt", "",
        "--max-completion-length", 48, "--output", report)
    found = json.loads(report.read_text())
    for policy in ("base", "adapter"):
        result = found["results"][policy]["greedy"]
        interval = binomtest(result["correct"], 64).proportion_ci(0.95, method="wilson")
        assert abs(result["confidence_interval"][0] - interval.low) < 1e-9
        assert abs(result["confidence_interval"][1] - interval.high) < 1e-9
    paired = found["comparison"]["greedy"]
    differ = paired["only_base"] + paired["only_adapter"]
    expected = binomtest(paired["only_base"], differ).pvalue if differ else 1.0
    print("McNemar:", paired, "scipy:", expected)
    assert abs(paired["mcnemar_p"] - expected) < 1e-9


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = folder / "model"
        run("sft", "--make-demo-model", model, "--max-steps", 300, "--seed", 1)
        check_losses(folder, model)
        run("sft", "--model", model, "--quantize", "none", "--dataset", folder / "data.jsonl",
            "--output-dir", folder / "adapter", "--max-steps", 8, "--lora-r", 4,
            "--learning-rate", 5e-3, "--save-steps", 0)
        check_statistics(folder, model)


if __name__ == "__main__":
    main()
