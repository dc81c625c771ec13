#!/usr/bin/env python3
"""LoRA adapters in and out against peft. Usage: peft.py QGRPO. Needs: peft torch transformers safetensors."""
import json
import os
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path = [p for p in sys.path if os.path.abspath(p or ".") != here]  # this file's name must not hide the package
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

sys.path.append(here)
import small_model  # noqa: E402

IDS = list(range(3, 40))
ACCEPTED = {
    "plain": dict(r=8, lora_alpha=16, target_modules=["q_proj", "down_proj"]),
    "all-linear": dict(r=4, lora_alpha=4, target_modules="all-linear"),
    "regex": dict(r=8, lora_alpha=32, target_modules=r".*layers\.(0|1)\.(self_attn\.(q|v)_proj|mlp\.up_proj)"),
    "rslora": dict(r=16, lora_alpha=8, use_rslora=True, target_modules=["k_proj", "gate_proj", "o_proj"]),
    "patterns": dict(r=8, lora_alpha=16, target_modules="all-linear", rank_pattern={"q_proj": 2, "layers.1.mlp.up_proj": 32},
                     alpha_pattern={"v_proj": 3.5, r"layers\.0\..*_proj": 20}),
    "rslora-patterns": dict(r=8, lora_alpha=16, use_rslora=True, target_modules=["q_proj", "v_proj"], rank_pattern={"q_proj": 4},
                            alpha_pattern={"q_proj": 64}),
    "one-layer": dict(r=8, lora_alpha=16, target_modules=["q_proj", "up_proj"], layers_to_transform=[1]),
    "paths": dict(r=4, lora_alpha=16, target_modules=["layers.1.self_attn.q_proj", "model.layers.0.mlp.down_proj"]),
    "exclude": dict(r=4, lora_alpha=16, target_modules="all-linear", exclude_modules=["o_proj"]),
}
REFUSED = {
    "dora": (dict(r=4, target_modules=["q_proj"], use_dora=True), "DoRA"),
    "bias": (dict(r=4, target_modules=["q_proj"], bias="all"), "bias"),
    "lora_bias": (dict(r=4, target_modules=["q_proj"], lora_bias=True), "lora_bias"),
    "modules_to_save": (dict(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]), "modules_to_save"),
    "embedding": (dict(r=4, target_modules=["q_proj", "embed_tokens"]), "embedding"),
    "head": (dict(r=4, target_modules=["lm_head"]), "head"),
}


def random_adapter(folder, base, options):
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.05)
    model.save_pretrained(folder)
    # As a reader gets it: saving sorts the keys of the patterns, of which the first that matches counts.
    base = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(base, folder)


def logprobs(model):
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0, :-1].float()
    return torch.log_softmax(logits, -1)[torch.arange(len(IDS) - 1), torch.tensor(IDS[1:])]


def score(program, *args):
    done = subprocess.run([program, "score", "--quantize", "none", *args], input=json.dumps({"ids": IDS}) + "\n",
                          capture_output=True, text=True)
    if done.returncode != 0:
        return done.stderr
    return torch.tensor(json.loads(done.stdout)["logprobs"][1:])


def main(program):
    with tempfile.TemporaryDirectory() as work:
        base = f"{work}/base"
        small_model.write(base, tied=False, dtype=torch.float32)
        plain = logprobs(transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
        for name, options in ACCEPTED.items():
            folder = f"{work}/{name}"
            want = logprobs(random_adapter(folder, base, options))
            assert (want - plain).abs().max() > 1e-2, name
            got = score(program, "--model", base, "--adapter", folder)
            assert isinstance(got, torch.Tensor), got
            merged = f"{work}/{name}-merged"
            subprocess.run([program, "export", "--model", base, "--adapter", folder, "--to", "merged", "--output", merged],
                           check=True, capture_output=True)
            in_transformers = logprobs(transformers.AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32))
            print(f"peft {name}: largest difference of a log-prob {(got - want).abs().max():.2g}, "
                  f"merged in transformers {(in_transformers - want).abs().max():.2g}")
            assert (got - want).abs().max() < 2e-4 and (in_transformers - want).abs().max() < 2e-4, name
        for name, (options, word) in REFUSED.items():
            folder = f"{work}/refused-{name}"
            random_adapter(folder, base, options)
            message = score(program, "--model", base, "--adapter", folder)
            assert isinstance(message, str) and word in message and message.count("\n") == 1, (name, message)
            print(f"peft {name}: refused: {message.strip().replace(work, '')}")
    print("peft: all checks passed")


if __name__ == "__main__":
    main(sys.argv[1])
