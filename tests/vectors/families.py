"""Makes tiny_mistral_yarn and rope/: a random Mistral with YaRN, and the frequencies of scaled rotary embeddings.

    python families.py        (needs torch, transformers, safetensors)

Fixed seeds, one thread, CPU. The values of tiny_mistral_yarn are those of the other tiny models (cut.py): forward,
every gradient, greedy text.
"""
import json, os, shutil

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, MistralConfig, MistralForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

OUT = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def dump(value, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def save(tensors, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path)


def make_model(vocab):
    torch.manual_seed(31)
    config = MistralConfig(
        vocab_size=vocab, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, tie_word_embeddings=False, rms_norm_eps=1e-5,
        sliding_window=None, bos_token_id=vocab - 4, eos_token_id=vocab - 2, pad_token_id=vocab - 4,
        rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                         "original_max_position_embeddings": 128})
    config._attn_implementation = "eager"
    model = MistralForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(1.0 + 0.2 * torch.randn_like(p) if name.endswith("norm.weight") else 0.08 * torch.randn_like(p))
            p.copy_(p.bfloat16().float())
    model.generation_config.eos_token_id = [vocab - 2, vocab - 4]
    return model


def greedy(model, vocab):
    """Two prompts whose continuation is clear and varied."""
    generator, out = torch.Generator().manual_seed(5), []
    for length in (5, 9):
        best = None
        for _ in range(80):
            ids = torch.randint(0, vocab - 4, (length,), generator=generator).tolist()
            case = {"prompt_ids": list(ids), "generated_ids": [], "top1_minus_top2_logit": [], "logprobs": []}
            for _ in range(24):
                with torch.no_grad():
                    logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
                top = logits.topk(2)
                ids.append(int(top.indices[0]))
                case["generated_ids"].append(ids[-1])
                case["top1_minus_top2_logit"].append(float(top.values[0] - top.values[1]))
                case["logprobs"].append(float(torch.log_softmax(logits, -1)[ids[-1]]))
            varied = len(set(case["generated_ids"]))
            if min(case["top1_minus_top2_logit"]) >= 5e-3 and (best is None or varied > best[0]):
                best = (varied, case)
        out.append(best[1])
    return out


def tiny_mistral_yarn():
    vocab, folder = 320, f"{OUT}/tiny_mistral_yarn"
    model = make_model(vocab)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    generator = torch.Generator().manual_seed(32)
    ids = torch.full((3, 20), vocab - 4, dtype=torch.long)
    attention, completion = torch.zeros_like(ids), torch.zeros_like(ids)
    for b, (length, prompt) in enumerate(((20, 6), (13, 4), (17, 9))):
        ids[b, :length] = torch.randint(0, vocab - 4, (length,), generator=generator)
        attention[b, :length] = 1
        completion[b, prompt:length] = 1
    hidden = {}
    for i, layer in enumerate(model.model.layers):
        layer.register_forward_hook(
            lambda m, a, o, i=i: hidden.__setitem__(f"hidden.layer{i}", o[0] if isinstance(o, tuple) else o))
    model.model.norm.register_forward_hook(lambda m, a, o: hidden.__setitem__("hidden.final_norm", o))
    positions = torch.arange(20).unsqueeze(0).expand_as(ids)
    logits = model(input_ids=ids, attention_mask=attention, position_ids=positions, use_cache=False).logits
    logps = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    mask = completion[:, 1:].float()
    loss = -(logps * mask).sum() / mask.sum()
    loss.backward()
    kept = attention.unsqueeze(-1).float()
    forward = {"input_ids": ids, "attention_mask": attention, "completion_mask": completion, "logits": logits * kept,
               "per_token_logps": logps * attention[:, 1:].float()}
    forward.update({name: value * kept for name, value in hidden.items()})
    save(forward, f"{folder}/golden/forward.safetensors")
    save({name: p.grad for name, p in model.named_parameters()}, f"{folder}/golden/grads.safetensors")
    dump({"loss": float(loss), "generation": greedy(model, vocab)}, f"{folder}/golden/expected.json")


def rope():
    cases = []
    for head_dim, theta, positions, scaling in (
            (64, 1e4, 2048, {"rope_type": "linear", "factor": 4.0}),
            (64, 5e5, 131072, {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_position_embeddings": 8192}),
            (128, 5e5, 131072, {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                "original_max_position_embeddings": 8192}),
            (128, 1e6, 32768, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
            (128, 1e6, 32768, {"rope_type": "yarn", "factor": 2.0}),
            (64, 1e4, 4096, {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096,
                             "beta_fast": 64.0, "beta_slow": 2.0, "truncate": False}),
            (64, 1e4, 4096, {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096,
                             "mscale": 1.0, "mscale_all_dim": 0.5}),
            (64, 1e4, 4096, {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096,
                             "attention_factor": 1.5})):
        config = LlamaConfig(hidden_size=4 * head_dim, num_attention_heads=4, head_dim=head_dim,
                             max_position_embeddings=positions, rope_parameters={"rope_theta": theta, **scaling})
        frequencies, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, torch.device("cpu"))
        cases.append({"head_dim": head_dim, "config": {"max_position_embeddings": positions, "rope_theta": theta,
                                                       "rope_scaling": scaling},
                      "inv_freq": frequencies.tolist(), "attention_factor": float(factor)})
    dump(cases, f"{OUT}/rope/frequencies.json")


if __name__ == "__main__":
    tiny_mistral_yarn()
    rope()
