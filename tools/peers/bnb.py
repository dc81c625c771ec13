#!/usr/bin/env python3
"""4-bit checkpoints against transformers and bitsandbytes. Usage: bnb.py QGRPO [MODEL_FOLDER].

Needs: bitsandbytes torch transformers accelerate safetensors.
"""
import json
import os
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path = [p for p in sys.path if os.path.abspath(p or ".") != here]  # peft.py there must not hide the package
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors import safe_open  # noqa: E402

sys.path.append(here)
IDS = list(range(3, 40))


def score(program, model, quantize="nf4"):
    done = subprocess.run([program, "score", "--model", model, "--quantize", quantize],
                          input=json.dumps({"ids": IDS}) + "\n", capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return torch.tensor(json.loads(done.stdout)["logprobs"][1:])


def logprobs(model):
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0, :-1].float()
    return torch.log_softmax(logits, -1)[torch.arange(len(IDS) - 1), torch.tensor(IDS[1:])]


def dequantized(model):
    """The model with plain float32 linears of the values that the codes stand for: bitsandbytes' own CPU products round."""
    import bitsandbytes as bnb
    for name, module in list(model.named_modules()):
        if isinstance(module, bnb.nn.Linear4bit):
            module.weight.quant_state.dtype = torch.float32  # not rounded to the type that it computes in
            weight = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state).float()
            plain = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=module.bias is not None)
            plain.weight.data = weight
            if module.bias is not None:
                plain.bias.data = module.bias.data.float()
            model.set_submodule(name, plain)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()
    return model


def load_4bit(folder, **options):
    config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, **options)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.float32,
                                                             device_map="cpu")


def tensors(folder):
    out = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with safe_open(f"{folder}/{name}", "pt") as f:
                out.update({key: f.get_tensor(key) for key in f.keys()})
    return out


def main(program, base, work):
    # theirs -> ours, in every kind of 4 bits that transformers makes
    for name, options in {
        "nf4-double": dict(bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
        "nf4-single": dict(bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=False),
        "fp4-double": dict(bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=True),
        "skip": dict(bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                     llm_int8_skip_modules=["lm_head", "model.layers.0.mlp", "model.layers.1.self_attn.q_proj"]),
    }.items():
        folder = f"{work}/{name}"
        theirs = load_4bit(base, **options)
        theirs.save_pretrained(folder)
        want = logprobs(dequantized(theirs))
        got = score(program, folder, "none")
        print(f"bnb {name}: largest difference of a log-prob from transformers {(got - want).abs().max():.2g}")
        assert (got - want).abs().max() < 5e-4, (got, want)
        if name in ("nf4-double", "skip"):
            assert (score(program, folder, "nf4") == got).all(), "--quantize nf4 changed what is quantized already"

    # ours -> theirs: the same tensors, and they load
    out = f"{work}/ours"
    done = subprocess.run([program, "export", "--model", base, "--to", "bnb-4bit", "--output", out, "--max-shard-size", "200KB"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout.strip())
    ours, theirs = tensors(out), tensors(f"{work}/nf4-double")
    differing = []
    for key, value in theirs.items():
        assert key in ours, f"{key} is missing"
        if "quant_state" in key:
            a, b = (json.loads(bytes(t.numpy())) for t in (value, ours[key]))
            a.pop("dtype"), b.pop("dtype")  # theirs was loaded as float32
            assert a == b, (key, a, b)
        elif value.shape != ours[key].shape or not torch.equal(value.float(), ours[key].float()):
            codes = (value.int() - ours[key].int()).abs() if value.shape == ours[key].shape else torch.full((1,), 256)
            differing.append((key, int((codes > 0).sum()), value.numel(), int(codes.max())))
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    print(f"bnb export: {len(ours)} tensors, {len(differing)} of them differ from transformers' own: {differing}")
    # bitsandbytes' versions round a scale that lies half-way between two 8-bit codes differently; nothing else may differ.
    assert all(key.endswith(".absmax") and count <= 1 + size // 100 and most == 1
               for key, count, size, most in differing), differing
    loaded = transformers.AutoModelForCausalLM.from_pretrained(out, device_map="cpu", dtype=torch.float32)
    difference = (logprobs(dequantized(loaded)) - score(program, out)).abs().max()
    print(f"bnb export in transformers: largest difference of a log-prob {difference:.2g}")
    assert difference < 5e-4
    print("bnb: all checks passed")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        model = sys.argv[2] if len(sys.argv) > 2 else f"{folder}/base"
        if len(sys.argv) <= 2:
            import small_model
            small_model.write(model)
        main(sys.argv[1], model, folder)
