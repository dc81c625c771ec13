"""Cuts the reference values that the tests of model/ and train/ need out of a folder of full ones.

    python cut.py REFERENCE_DIR        (needs numpy, safetensors, torch)

REFERENCE_DIR holds what PyTorch, transformers, peft, bitsandbytes and TRL computed for a tiny random model. Tensors are
copied as they are; nothing is computed here.
"""
import json, os, shutil, sys
from safetensors.torch import load_file, save_file

src = sys.argv[1]
out = os.path.dirname(os.path.abspath(__file__))


def copy(path, to=None):
    to = os.path.join(out, to or path)
    os.makedirs(os.path.dirname(to), exist_ok=True)
    shutil.copy(os.path.join(src, path), to)
    os.chmod(to, 0o644)


def cut(path, keep, to=None):
    tensors = {k: v for k, v in load_file(os.path.join(src, path)).items() if keep(k)}
    to = os.path.join(out, to or path)
    os.makedirs(os.path.dirname(to), exist_ok=True)
    save_file(tensors, to)


for m in ("tiny_qwen2", "tiny_qwen2_untied"):
    for f in os.listdir(f"{src}/{m}"):
        if os.path.isfile(f"{src}/{m}/{f}"):
            copy(f"{m}/{f}")
    for f in ("expected.json", "forward.safetensors", "grads.safetensors"):
        copy(f"{m}/golden/{f}")
for f in ("config.json", "generation_config.json", "model.safetensors"):
    copy(f"tiny_qwen2_bf16/{f}")
for f in ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "expected.json", "forward.safetensors",
          "grads.safetensors"):
    copy(f"lora/{f}")
# The other families: the model, its values and its adapter's. (tiny_mistral_yarn and rope/ are of families.py.)
for m in ("tiny_qwen3", "tiny_llama3"):
    for f in ("config.json", "generation_config.json", "model.safetensors", "golden/expected.json",
              "golden/forward.safetensors", "golden/grads.safetensors", "lora/adapter/adapter_config.json",
              "lora/adapter/adapter_model.safetensors", "lora/expected.json", "lora/forward.safetensors",
              "lora/grads.safetensors"):
        copy(f"{m}/{f}")
copy("nf4/qlora.safetensors")
copy("nf4/expected.json")
cut("nf4/nf4.safetensors", lambda k: (not k.startswith("g_") or ("double." in k and "dequant" not in k) or "weight" in k) and "double_cpu" not in k and "dequant_f32" not in k)

for f in ("expected.json", "grads.safetensors", "inputs.safetensors"):
    copy(f"grpo/{f}")

# Whole optimizer steps: the last adapter, the first gradient, the 8-bit states.
keep = ("one_step_grpo_plain_kl", "one_step_dapo", "one_step_bnpo", "one_step_dr_grpo", "four_steps_grpo_plain_kl",
        "temperature_grpo", "accumulate2_grpo", "accumulate2_dapo", "cosine_grpo", "equal_rewards_beta0",
        "equal_rewards_beta004", "adamw8bit_small_grpo", "adamw8bit_r26_grpo", "two_iterations_dapo")
e = json.load(open(f"{src}/e2e_grpo/expected.json"))
e["scenarios"] = [s for s in e["scenarios"] if s["name"] in keep]
for s in e["scenarios"]:
    last = s["config"]["max_steps"]
    first = s["name"] in ("one_step_grpo_plain_kl", "temperature_grpo", "accumulate2_grpo", "adamw8bit_r26_grpo")
    cut(f"e2e_grpo/{s['name']}.safetensors",
        lambda k: k.startswith(f"adapter.step{last}/") or (first and k.startswith("grad.step1/")) or k.startswith(f"optim.step{last}/"))
    for k in list(s):
        if k.startswith("independent"):
            del s[k]
json.dump(e, open(f"{out}/e2e_grpo/expected.json", "w"), indent=1)
for f in ("adapter_config.json", "adapter_model.safetensors"):
    copy(f"e2e_grpo/adapter_r26/{f}")
