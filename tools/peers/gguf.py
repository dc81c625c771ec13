#!/usr/bin/env python3
"""GGUF against the gguf package and llama.cpp. Usage: gguf.py QGRPO [MODEL_FOLDER]; gguf.py --vectors FILE.

Needs: gguf numpy safetensors torch transformers xllamacpp (llama.cpp as a wheel).
"""
import json
import os
import subprocess
import sys
import tempfile
import urllib.request

sys.path = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]
import numpy as np  # noqa: E402  (this file's own name must not hide the package)
import gguf  # noqa: E402

QUANTS = gguf.GGMLQuantizationType
READ = [QUANTS.F32, QUANTS.F16, QUANTS.BF16, QUANTS.Q4_0, QUANTS.Q4_1, QUANTS.Q5_0, QUANTS.Q5_1, QUANTS.Q8_0, QUANTS.Q2_K, QUANTS.Q3_K,
        QUANTS.Q4_K, QUANTS.Q5_K, QUANTS.Q6_K, QUANTS.IQ4_NL, QUANTS.IQ4_XS]
WRITTEN = ["F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q4_0"]


def ggml():
    """llama.cpp's own code, of the wheel."""
    import ctypes
    import xllamacpp
    folder = os.path.dirname(xllamacpp.__file__)
    library = ctypes.CDLL(next(f"{folder}/{name}" for name in os.listdir(folder) if name.startswith("xllamacpp") and name.endswith(".so")))
    chunk = library.ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    return chunk


def blocks(kind, values):
    """Bytes of `values` in this format, by ggml."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if kind in (QUANTS.F32, QUANTS.F16, QUANTS.BF16):
        return gguf.quants.quantize(values, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.zeros((values.shape[0], values.shape[1] // block * size), dtype=np.uint8)
    written = ggml()(int(kind), values.ctypes.data, out.ctypes.data, 0, values.shape[0], values.shape[1], None)
    assert written == out.nbytes, (kind, written, out.nbytes)
    return out


def hard_values():
    """Rows of 256 on which a search for scales may go astray."""
    rng = np.random.default_rng(3)
    rows = [rng.standard_normal(256) * scale for scale in (1e-4, 0.02, 1.0, 300.0)]
    rows += [rng.random(256), -rng.random(256) - 0.5, rng.standard_t(2, 256), rng.laplace(size=256) * 0.01]
    rows += [np.zeros(256), np.full(256, 0.25), np.full(256, -3.0), np.where(np.arange(256) == 77, 5.0, 0.0)]
    rows += [np.round(rng.standard_normal(256) * 4), np.repeat(rng.standard_normal(8), 32) * np.tile([0.0, 1.0], 128)]
    rows += [rng.standard_normal(256) * np.repeat(10.0 ** np.arange(-4, 4), 32), np.full(256, 1e-20)]
    return np.array(rows, dtype=np.float32)


def write_vectors(path):
    """tests/vectors/gguf/quants.safetensors: bytes and values of every format that is read."""
    from safetensors.numpy import save_file
    rng = np.random.default_rng(1)
    w = (rng.standard_normal((2, 512)) * 0.1).astype(np.float32)
    w[0, :32] = 0
    w[1, 5] = 3.0
    out = {"source": w, "hard": hard_values()}
    for kind in READ:
        for name, values in (("", w), ("hard.", out["hard"])):
            if kind == QUANTS.F32 and name:
                continue
            raw = blocks(kind, values)
            out[f"{name}{kind.name}.values"] = gguf.quants.dequantize(raw, kind).astype(np.float32)
            out[f"{name}{kind.name}.bytes"] = np.ascontiguousarray(raw).view(np.uint8).reshape(-1)
            if name:  # what is written of them is checked; what is read, of the others
                del out[f"{name}{kind.name}.values"]
    # f32_to_f16, with subnormals, ties and the largest.
    edge = np.array([0.0, -0.0, 1.0, 65504.0, 65519.9, 6e-8, 2.9802322e-8, 2.98023259e-8, 1e-9, 6.1035e-5, 6.0976e-5,
                     1.00048828125, 1.0014648, -3.14159, 2048.5, 2049.0, 2051.0, 5.96e-8, 1e-5], dtype=np.float32)
    out["half.f32"], out["half.bits"] = edge, edge.astype(np.float16).view(np.uint8)
    save_file(out, path)


def run(program, *args, stdin=""):
    done = subprocess.run([program, *args], input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(args)}: {done.stderr}")
    return done.stdout


class Llama:
    """llama.cpp with a model file: its server, inside this process."""

    def __init__(self, path):
        import xllamacpp
        params = xllamacpp.CommonParams()
        params.model.path = path
        params.n_ctx, params.n_parallel, params.warmup, params.n_gpu_layers = 256, 1, False, 0
        params.cpuparams.n_threads = 2
        self.server = xllamacpp.Server(params)

    def post(self, route, request):
        request = urllib.request.Request(self.server.listening_address + route, json.dumps(request).encode(),
                                         {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))

    def ids(self, text):
        return self.post("/tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"]

    def greedy(self, ids, count):
        return self.post("/completion", {"prompt": ids, "n_predict": count, "temperature": 0, "top_k": 1, "samplers": ["top_k"],
                                         "repeat_penalty": 1.0, "return_tokens": True,
                                         "cache_prompt": False})["tokens"]


def hugging_face_name(name):
    short = {"token_embd": "embed_tokens", "output_norm": "norm", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    parts = name.split(".")
    if parts[0] == "output":
        return "lm_head.weight"
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{short[parts[2]]}.{parts[3]}"
    return f"model.{short[parts[0]]}.{parts[1]}"


def check_export(program, model, work):
    import torch
    import transformers
    from safetensors import safe_open
    tensors = safe_open(f"{model}/model.safetensors", "pt")
    texts = ["The quick brown fox doesn't jump.", "<|im_start|>user\n2 + 3 = ?<|im_end|>\n", "straße  12345\n\n x"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    for kind in WRITTEN:
        path = f"{work}/{kind}.gguf"
        print(run(program, "export", "--model", model, "--to", "gguf", "--gguf-type", kind, "--output", path).strip())
        reader = gguf.GGUFReader(path)
        same, types = 0, {}
        for t in reader.tensors:
            types[t.tensor_type.name] = types.get(t.tensor_type.name, 0) + 1
            source = tensors.get_tensor(hugging_face_name(t.name)).float().numpy()
            if source.ndim == 2:
                want = np.ascontiguousarray(blocks(t.tensor_type, source)).view(np.uint8).ravel()
                assert (want == np.ascontiguousarray(t.data).view(np.uint8).ravel()).all(), t.name
                same += want.size
        print(f"gguf {kind}: {same} bytes of matrices are ggml's own; types {types}")
        llama = Llama(path)
        for text in texts:
            ids = tokenizer(text)["input_ids"]
            assert llama.ids(text) == ids, (kind, text, llama.ids(text), ids)
            ours = json.loads(run(program, "tokenize", "--model", path, stdin=json.dumps(text) + "\n"))["ids"]
            assert ours == ids, (kind, ours, ids)
        ids = tokenizer(texts[0])["input_ids"]
        line = json.loads(run(program, "generate", "--model", path, "--quantize", "none", "--temperature", "0",
                              "--max-tokens", "24", stdin=json.dumps({"ids": ids}) + "\n"))
        ours = (line.get("completions") or [line])[0]["ids"]
        theirs = llama.greedy(ids, 24)
        end = tokenizer.eos_token_id
        ours, theirs = ([token for token in found if token != end] for found in (ours, theirs))
        same = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), len(theirs))
        print(f"gguf {kind}: llama.cpp loads it, same ids; greedy: the first {same} of {len(theirs)} tokens are the same")
        # llama.cpp rounds activations to 8 bits for the quantized kinds: near-ties may fall otherwise.
        assert same >= (max(len(ours), len(theirs)) if kind in ("F16", "BF16") else 4), (ours, theirs)


def check_reading(program, work):
    """A file of each type, by the gguf package; scored against transformers on the dequantized weights."""
    import torch
    import small_model
    for kind in READ:
        folder = f"{work}/read-{kind.name}"
        model = small_model.write(folder, tied=False, dtype=torch.float32)
        config, path = model.config, f"{folder}/model.gguf"
        out = gguf.GGUFWriter(path, "qwen2")
        out.add_block_count(config.num_hidden_layers)
        out.add_context_length(256)
        out.add_embedding_length(config.hidden_size)
        out.add_feed_forward_length(config.intermediate_size)
        out.add_head_count(4)
        out.add_head_count_kv(2)
        out.add_rope_freq_base(10000.0)
        out.add_layer_norm_rms_eps(config.rms_norm_eps)
        names = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
                 "post_attention_layernorm": "ffn_norm", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v",
                 "o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
        with torch.no_grad():
            for name, p in model.named_parameters():
                parts = name.split(".")
                short = names[parts[-2]] + "." + parts[-1]
                if "layers" in parts:
                    short = f"blk.{parts[2]}.{short}"
                if p.ndim == 1:
                    out.add_tensor(short, p.numpy())
                    continue
                raw = blocks(kind, p.numpy())
                p.copy_(torch.from_numpy(gguf.quants.dequantize(raw, kind).astype(np.float32)))
                if kind in (QUANTS.F32, QUANTS.F16):
                    out.add_tensor(short, raw)
                else:
                    out.add_tensor(short, np.ascontiguousarray(raw), raw_dtype=kind)
        out.write_header_to_file(); out.write_kv_data_to_file(); out.write_tensors_to_file(); out.close()
        ids = list(range(3, 40))
        with torch.no_grad():
            logp = torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1], -1)
        want = logp[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].numpy()
        line = run(program, "score", "--model", path, "--quantize", "none", stdin=json.dumps({"ids": ids}) + "\n")
        got = np.array(json.loads(line)["logprobs"][1:], dtype=np.float32)
        print(f"gguf {kind.name} read: largest difference of a log-prob from transformers {abs(got - want).max():.2g}")
        assert abs(got - want).max() < 2e-4


FAMILIES = {
    "Qwen3": dict(tied=True, head_dim=128),
    "Llama": dict(rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                                   "high_freq_factor": 4.0, "original_max_position_embeddings": 16}, tied=False),
    "Mistral": dict(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
                                     "original_max_position_embeddings": 64}, sliding_window=None, tied=False),
}


def check_families(program, work):
    """Every other family as F16: llama.cpp and this program continue as transformers does."""
    import torch
    import small_model
    ids = [5, 77, 300, 12, 9, 41, 200, 8]
    for kind, keys in FAMILIES.items():
        folder, path = f"{work}/family-{kind}", f"{work}/{kind}.gguf"
        model = small_model.write(folder, dtype=torch.float16, kind=kind, **keys).float().eval()
        want = model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False, eos_token_id=None)[0, len(ids):].tolist()
        run(program, "export", "--model", folder, "--to", "gguf", "--gguf-type", "F16", "--output", path)
        line = json.loads(run(program, "generate", "--model", path, "--quantize", "none", "--temperature", "0", "--max-tokens", "24",
                              "--ignore-eos", stdin=json.dumps({"ids": ids}) + "\n"))
        ours, theirs = (line.get("completions") or [line])[0]["ids"], Llama(path).greedy(ids, 24)
        same = [next((i for i, (a, b) in enumerate(zip(found, want)) if a != b), len(found)) for found in (ours, theirs)]
        print(f"gguf {kind}: of transformers' 24 greedy tokens the first {same[0]} are ours, the first {same[1]} llama.cpp's")
        assert ours == want and theirs == want[:len(theirs)], (ours, theirs, want)


if __name__ == "__main__":
    if sys.argv[1] == "--vectors":
        write_vectors(sys.argv[2])
        sys.exit()
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    with tempfile.TemporaryDirectory() as work:
        model = sys.argv[2] if len(sys.argv) > 2 else f"{work}/model"
        if len(sys.argv) <= 2:
            import small_model
            small_model.write(model, tied=False)
        check_reading(sys.argv[1], work)
        check_export(sys.argv[1], model, work)
        check_families(sys.argv[1], work)
    print("gguf: all checks passed")
