#!/usr/bin/env python3
"""Model folders as people have them, against transformers and peft. Usage: checkpoints.py QGRPO.

Each folder is scored by both, each tokenizer encodes and decodes with both; what qgrpo refuses must be refused in one
line. Needs: torch transformers peft safetensors numpy accelerate.
"""
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

sys.path = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

QGRPO = os.path.abspath(sys.argv[1])
VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/vectors")
IDS = [5, 17, 300, 42, 7, 101, 256, 33]
TOLERANCE = 2e-4  # float32 sums in another order
failures = []


def report(name, good, detail):
    print(f"{'ok  ' if good else 'FAIL'} {name}: {detail}")
    if not good:
        failures.append(name)


def run(*args, stdin):
    return subprocess.run([QGRPO, *args], input=stdin, capture_output=True, text=True)


def score(folder, *more):
    done = run("score", "--model", folder, "--quantize", "none", *more, stdin=json.dumps({"ids": IDS}) + "\n")
    return (json.loads(done.stdout)["logprobs"][1:] if done.returncode == 0 else None), done.stderr.strip()


def reference(folder, adapter=None):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter:
        from peft import PeftModel
        model = PeftModel.from_pretrained(model, adapter)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logits = model(ids).logits[0].log_softmax(-1)
    return [logits[i, IDS[i + 1]].item() for i in range(len(IDS) - 1)]


def check_scores(name, folder, expect_refusal=False, adapter=None):
    ours, err = score(folder, *(["--adapter", adapter] if adapter else []))
    if ours is None:
        report(name, expect_refusal and err.count("\n") == 0 and err.startswith("qgrpo: error: "), err[-160:])
        return
    theirs = reference(folder, adapter)
    worst = max(abs(a - b) for a, b in zip(ours, theirs))
    report(name, worst < TOLERANCE and not expect_refusal, f"largest difference {worst:.2g}" + (f"; {err[:90]}" if err else ""))


def write_index(folder, files):
    save = {name: file for file, tensors in files.items() for name in tensors}
    json.dump({"metadata": {}, "weight_map": save}, open(folder + "/model.safetensors.index.json", "w"))


def shapes(root):
    tied = load_file(VECTORS + "/tiny_qwen2/model.safetensors")
    untied = {}
    for i in (1, 2):
        untied |= load_file(VECTORS + f"/tiny_qwen2_untied/model-0000{i}-of-00002.safetensors")

    def folder(name, base="tiny_qwen2", **config):
        path = f"{root}/{name}"
        os.makedirs(path)
        c = json.load(open(f"{VECTORS}/{base}/config.json")) | config
        json.dump(c, open(path + "/config.json", "w"))
        shutil.copy(f"{VECTORS}/{base}/generation_config.json", path)
        return path

    def save(path, tensors, name="model.safetensors"):
        os.makedirs(os.path.dirname(f"{path}/{name}"), exist_ok=True)
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, f"{path}/{name}", {"format": "pt"})

    names = sorted(tied)
    first = {k: tied[k] for k in names[: len(names) // 2]}
    second = {k: tied[k] for k in names[len(names) // 2:]}
    other = {k: v * 2 if k == "model.norm.weight" else v for k, v in tied.items()}

    p = folder("single"); save(p, tied); check_scores("a single file", p)
    p = folder("stale"); save(p, tied); save(p, other, "old.safetensors"); write_index(p, {"old.safetensors": other})
    check_scores("a single file beside an index of others", p)
    p = folder("dotted"); save(p, first, "a.safetensors"); save(p, second, "sub/b.safetensors")
    write_index(p, {"./a.safetensors": first, "sub/b.safetensors": second}); check_scores("./a and sub/b", p)
    p = folder("partial"); save(p, first, "a.safetensors"); save(p, second, "b.safetensors")
    write_index(p, {"a.safetensors": list(first)[:1], "b.safetensors": list(second)[:1]})
    check_scores("tensors that the index leaves out", p)
    p = folder("wrong"); save(p, first, "a.safetensors"); save(p, second, "b.safetensors")
    write_index(p, {"a.safetensors": second, "b.safetensors": first}); check_scores("an index with the wrong files", p)
    p = folder("gone"); save(p, first, "a.safetensors"); write_index(p, {"a.safetensors": first, "b.safetensors": second})
    check_scores("a missing shard", p, expect_refusal=True)
    p = folder("both"); save(p, tied | {"lm_head.weight": tied["model.embed_tokens.weight"]})
    check_scores("tied, both stored and equal", p)
    p = folder("head"); save(p, {"lm_head.weight" if k.endswith("embed_tokens.weight") else k: v for k, v in tied.items()})
    check_scores("tied, the head's name alone", p)
    p = folder("differs", "tiny_qwen2_untied", tie_word_embeddings=True); save(p, untied)
    check_scores("tied, another head stored", p)
    p = folder("nohead", tie_word_embeddings=False); save(p, tied); check_scores("untied without a head", p, True)
    p = folder("bare"); save(p, {k.removeprefix("model."): v for k, v in tied.items()}); check_scores("names without model.", p)
    for prefix in ("module.", "_orig_mod.", "base_model.model."):
        p = folder("prefix-" + prefix); save(p, {prefix + k: v for k, v in tied.items()})
        check_scores(f"names with {prefix}", p, True)
    extra = {"score.weight": torch.zeros(1, 64), "foo": torch.ones(3)}
    p = folder("extra"); save(p, tied | extra); check_scores("tensors of something else", p)
    p = folder("inv_freq"); save(p, tied | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    check_scores("stored buffers", p)
    for name in ("model.layers.0.self_attn.o_proj.bias", "lm_head.bias", "model.layers.9.mlp.up_proj.weight"):
        p = folder("extra-" + name); save(p, tied | {name: torch.ones(64)}); check_scores(name, p, True)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        p = folder(str(dtype)); save(p, {k: v.to(dtype) for k, v in tied.items()}); check_scores(str(dtype), p)
    for key, value in [("rope_scaling", {"type": "linear", "factor": 1.0}), ("use_sliding_window", False),
                       ("layer_types", ["full_attention"] * 3), ("hidden_act", "swish"), ("unknown_key", 3)]:
        p = folder("key-" + key, **{key: value}); save(p, tied); check_scores(f"{key} = {value}", p)
    p = folder("window", use_sliding_window=True, sliding_window=4, max_window_layers=3); save(p, tied)
    check_scores("a sliding window for no layer", p)
    for key, value in [("rope_scaling", {"type": "linear", "factor": 2.0}), ("is_causal", False), ("use_mrope", True),
                       ("layer_types", ["sliding_attention"] * 3)]:
        p = folder("bad-" + key, **{key: value}); save(p, tied); check_scores(f"{key} = {value}", p, True)


def adapters(root):
    base, source = VECTORS + "/tiny_qwen2", VECTORS + "/lora/adapter"
    for name, change in [("as saved", {}), ("layers_pattern", {"layers_pattern": "layers", "layers_to_transform": [0, 1, 2]}),
                         ("an alpha_pattern that matches nothing", {"alpha_pattern": {"query": 1}}),
                         ("an alpha_pattern", {"alpha_pattern": {"q_proj": 1}})]:
        path = f"{root}/adapter-{name.replace(' ', '-')}"
        shutil.copytree(source, path)
        config = json.load(open(path + "/adapter_config.json")) | change
        json.dump(config, open(path + "/adapter_config.json", "w"))
        check_scores(f"adapter: {name}", base, adapter=path)


def tokenizers(root):
    small = VECTORS + "/tokenizer/small"
    source = json.load(open(small + "/tokenizer.json"))
    full = {str(a["id"]): {k: v for k, v in a.items() if k != "id"} for a in source["added_tokens"]}
    token = lambda content, special=False, **more: dict(content=content, lstrip=False, rstrip=False, single_word=False,
                                                        normalized=False, special=special) | more
    unset = copy.deepcopy(source)
    unset["added_tokens"][2]["special"] = False
    cases = [
        ("added_tokens_decoder", {"added_tokens_decoder": full | {"1000": token("<|new|>")}}, "x<|new|>y<|im_end|>", source, {}),
        ("a token of the vocabulary", {"added_tokens_decoder": full | {"1000": token("he")}}, "the hehe", source, {}),
        ("an id with a gap", {"added_tokens_decoder": full | {"1010": token("<|new|>")}}, "x<|new|>y", source, {}),
        ("special by the decoder", {"added_tokens_decoder": full}, "x<|im_end|>y", unset, {}),
        ("stripping", {"added_tokens_decoder": full | {"999": token("<|im_end|>", True, lstrip=True, rstrip=True)}},
         "x <|im_end|> y", source, {}),
        ("eos_token", {"eos_token": "<|fin|>", "added_tokens_decoder": full}, "x<|fin|>y", source, {}),
        ("pad_token", {"pad_token": "<|pad|>"}, "x<|pad|>y", source, {}),
        ("additional_special_tokens", {"additional_special_tokens": ["<|new|>", "<tool_call>"]}, "x<|new|>y<tool_call>", source, {}),
        ("extra_special_tokens", {"extra_special_tokens": {"image_token": "<|img|>"}}, "x<|img|>y", source, {}),
        ("added_tokens.json", {}, "x<|new|>y", source, {"added_tokens.json": {"<|new|>": 1000}}),
        ("special_tokens_map.json", {}, "x<|new|>y<|fin|>", source,
         {"special_tokens_map.json": {"eos_token": "<|fin|>", "additional_special_tokens": ["<|new|>"]}}),
    ]
    for kind in ("Qwen2Tokenizer", "PreTrainedTokenizerFast"):
        for name, config, text, tokenizer, files in cases:
            path = f"{root}/tokenizer-{kind}-{name.replace(' ', '-')}"
            os.makedirs(path)
            for file, content in (files | {"tokenizer.json": tokenizer, "tokenizer_config.json": {"tokenizer_class": kind} | config}).items():
                json.dump(content, open(f"{path}/{file}", "w"))
            theirs = AutoTokenizer.from_pretrained(path)(text, add_special_tokens=False)["input_ids"]
            done = run("tokenize", "--model", path, stdin=json.dumps(text) + "\n")
            ours = json.loads(done.stdout)["ids"] if done.returncode == 0 else done.stderr
            report(f"{kind}: {name}", ours == theirs, f"{ours} and {theirs}")


with tempfile.TemporaryDirectory() as scratch:
    shapes(scratch)
    adapters(scratch)
    tokenizers(scratch)
print(f"{len(failures)} differences" + (": " + ", ".join(failures) if failures else ""))
sys.exit(1 if failures else 0)
