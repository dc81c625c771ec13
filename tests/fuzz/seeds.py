#!/usr/bin/env python3
"""Writes the inputs that fuzzing begins with, tests/fuzz/corpus/TARGET/seed-*, from tests/vectors and from here.

    tests/fuzz/seeds.py

Files of several parts have a byte 0x1e between them (tests/fuzz/target.h).
"""

import gzip
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
VECTORS = os.path.join(HERE, "..", "vectors")
SPLIT = b"\x1e"


def vector(path):
    with open(os.path.join(VECTORS, path), "rb") as file:
        return file.read()


def dumps(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def write(target, seeds):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    for number, seed in enumerate(seeds):
        with open(os.path.join(folder, f"seed-{number:02}"), "wb") as file:
            file.write(seed if isinstance(seed, bytes) else seed.encode())


def json_seeds():
    return [
        '{"a":[1,-2.5e3,true,false,null,"x\\u00e9\\ud83d\\ude00\\n"],"b":{"c":{}},"":[]}',
        '[[[[[[1]]]]]]', '{"a":NaN}', "{'a':1}", '{"a":1,}', '{"a":1} {"b":2}', '[18446744073709551615,9007199254740993]',
        '// c\n{"a":/* d */1', '"\xff"'.encode("latin1"), '{"a":1e999}', '\ufeff{"a":1}', '{"a":12345678901234567890123}',
    ]


def safetensors_file(header, data, padded=8):
    text = dumps(header)
    text += b" " * (-len(text) % padded)
    return struct.pack("<Q", len(text)) + text + data


def safetensors_seeds():
    def entry(dtype, shape, begin, end):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    return [
        safetensors_file({"__metadata__": {"format": "pt"}, "a": entry("F32", [2, 3], 0, 24),
                          "b": entry("BF16", [4], 24, 32), "c": entry("F64", [1], 32, 40)}, bytes(range(40))),
        safetensors_file({"a": entry("F16", [], 0, 2), "b": entry("U8", [0], 2, 2)}, b"\0\x3c", 1),
        safetensors_file({"a": entry("I64", [1], 0, 8), "b": entry("F8_E4M3", [3], 8, 11)}, bytes(11)),
        safetensors_file({}, b""),
    ]


class Gguf:
    """As model/io/gguf.h has it."""

    def __init__(self):
        self.keys, self.tensors, self.count, self.data = b"", [], 0, b""

    @staticmethod
    def text(text):
        return struct.pack("<Q", len(text.encode())) + text.encode()

    def add(self, key, kind, value):
        self.keys += self.text(key) + struct.pack("<I", kind) + value
        self.count += 1

    def string(self, key, value):
        self.add(key, 8, self.text(value))

    def u32(self, key, value):
        self.add(key, 4, struct.pack("<I", value))

    def f32(self, key, value):
        self.add(key, 6, struct.pack("<f", value))

    def strings(self, key, values):
        self.add(key, 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(self.text, values)))

    def ints(self, key, values):
        self.add(key, 9, struct.pack("<IQ", 5, len(values)) + struct.pack(f"<{len(values)}i", *values))

    def tensor(self, name, shape, kind, size):
        self.tensors.append((name, shape, kind, len(self.data)))
        self.data += bytes((i * 7) % 256 for i in range(size))
        self.data += b"\0" * (-len(self.data) % 32)

    def file(self, version=3):
        out = b"GGUF" + struct.pack("<IQQ", version, len(self.tensors), self.count) + self.keys
        for name, shape, kind, offset in self.tensors:
            out += self.text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        return out + b"\0" * (-len(out) % 32) + self.data


def gguf_seeds():
    full = Gguf()
    full.string("general.architecture", "qwen2")
    full.string("general.type", "model")
    full.u32("qwen2.block_count", 1)
    full.u32("qwen2.embedding_length", 8)
    full.u32("qwen2.feed_forward_length", 8)
    full.u32("qwen2.attention.head_count", 2)
    full.u32("qwen2.attention.head_count_kv", 1)
    full.u32("qwen2.context_length", 64)
    full.f32("qwen2.rope.freq_base", 10000.0)
    full.f32("qwen2.attention.layer_norm_rms_epsilon", 1e-6)
    full.f32("general.sampling.temp", 0.7)
    full.u32("general.sampling.top_k", 20)
    full.string("tokenizer.ggml.model", "gpt2")
    full.string("tokenizer.ggml.pre", "qwen2")
    full.strings("tokenizer.ggml.tokens", list("tobernf,|<>_im") + ["\u0120", "\u0120t", "<|im_end|>", "[PAD17]"])
    full.ints("tokenizer.ggml.token_type", [1] * 16 + [3, 5])
    full.strings("tokenizer.ggml.merges", ["\u0120 t"])
    full.u32("tokenizer.ggml.eos_token_id", 16)
    full.tensor("token_embd.weight", [8, 18], 0, 576)
    full.tensor("blk.0.attn_q.bias", [8], 1, 16)
    quants = Gguf()
    quants.add("general.alignment", 4, struct.pack("<I", 32))
    quants.add("a.bool", 7, b"\1")
    quants.add("a.i64", 11, struct.pack("<q", -5))
    quants.add("a.f64", 12, struct.pack("<d", 0.5))
    quants.add("a.list", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 0, 2) + b"\1\2")
    for name, kind, elements, size in (("q4_0", 2, 32, 18), ("q4_1", 3, 32, 20), ("q5_0", 6, 32, 22), ("q8_0", 8, 32, 34),
                                       ("q2_k", 10, 256, 84), ("q3_k", 11, 256, 110), ("q4_k", 12, 256, 144),
                                       ("q5_k", 13, 256, 176), ("q6_k", 14, 256, 210), ("bf16", 30, 4, 8)):
        quants.tensor(name, [elements], kind, size)
    scores = Gguf()
    scores.string("general.architecture", "llama")
    scores.string("tokenizer.ggml.model", "llama")
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + list("tobernf,\u2581") + ["to", "\u2581to", "<|x|>", "[PAD]"]
    scores.strings("tokenizer.ggml.tokens", pieces)
    scores.add("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, len(pieces)) +
               b"".join(struct.pack("<f", -float(i)) for i in range(len(pieces))))
    scores.ints("tokenizer.ggml.token_type", [2, 3, 3] + [6] * 256 + [1] * 11 + [4, 5])
    scores.u32("tokenizer.ggml.bos_token_id", 1)
    scores.u32("tokenizer.ggml.eos_token_id", 2)
    return [full.file(), quants.file(2), Gguf().file(), scores.file()]


def tokenizer_files():
    small = json.loads(vector("tokenizer/small/tokenizer.json"))
    vocab = small["model"]["vocab"]
    base = dict(list(vocab.items())[:260])
    merges = [m for m in small["model"]["merges"]
              if all(p in vocab for p in (m if isinstance(m, list) else m.split(" ")))][:8]
    pairs = [m if isinstance(m, list) else m.split(" ") for m in merges]
    for left, right in pairs:
        base[left + right] = vocab[left + right]
    small["model"]["vocab"], small["model"]["merges"] = base, merges
    return small, base, pairs


def tokenizer_seeds():
    small, _, _ = tokenizer_files()
    config = vector("tokenizer/small/tokenizer_config.json")
    text = "a <|im_start|>user\n\u00e9 12 don't  \u4e2d<|im_end|>".encode()
    tiny = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "\u0120": 3}, "merges": ["a b"]},
            "added_tokens": [{"id": 4, "content": "<x>", "special": True, "lstrip": True, "rstrip": True,
                              "single_word": False, "normalized": False}],
            "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "post_processor": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"}}
    side = {"added_tokens_decoder": {"5": {"content": "<y>", "special": False, "normalized": True}},
            "eos_token": "<x>", "additional_special_tokens": ["<z>"], "chat_template": "{{ messages }}"}
    return [dumps(small) + SPLIT + config + SPLIT + text, dumps(tiny) + SPLIT + dumps(side) + SPLIT + b"ab <x> b<y>",
            dumps(tiny)]


def vocab_seeds():
    _, vocab, pairs = tokenizer_files()
    merges = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in pairs)
    side = {"added_tokens_decoder": {"4": {"content": "<y>", "special": True}}, "tokenizer_class": "Qwen2Tokenizer"}
    return [dumps(vocab) + SPLIT + merges.encode() + SPLIT + SPLIT + b"to be, or not",
            dumps({"a": 0, "b": 1, "ab": 2, "\u0120": 3}) + SPLIT + b"a b\n" + SPLIT + dumps(side) + SPLIT + b"ab <y>b a"]


def jinja_seeds():
    snippets = json.loads(vector("tokenizer/jinja_snippets.json"))
    texts = [s["template"] for s in snippets["snippets"]]
    variables = dumps(snippets["variables"])
    seeds = [vector("tokenizer/chat/" + name) for name in
             ("header_style.jinja", "inst_style.jinja", "macro_style.jinja", "qwen2_5.jinja", "turn_style.jinja")]
    seeds += ["".join(texts[i:i + 4]).encode() for i in range(0, len(texts), 4)]
    seeds = [seed + SPLIT + SPLIT + (variables if number >= 5 else b"") for number, seed in enumerate(seeds)]
    return seeds[:40]


def dataset_seeds():
    def lines(*items):
        return b"\n".join(map(dumps, items)) + b"\n"
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "2+2?"}]
    answered = chat + [{"role": "assistant", "content": "4"}]
    shapes = [
        lines({"question": "2+2?", "answer": "It is 4\n#### 4"}, {"question": "x", "answer": "#### -1,000"}),
        lines({"prompt": chat, "answer": 4, "tools": [{"type": "function"}], "chat_template_kwargs": {"a": 1}}),
        lines({"messages": answered}), lines({"problem": "p", "solution": "so \\boxed{4}"}),
        lines({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}),
        lines({"instruction": "i", "input": "j", "output": "k"}), dumps([{"question": "q", "answer": "a"}]),
        lines({"a": {"b": "p"}, "answer": True}), b"\xef\xbb\xbf" + lines({"text": "t"}),
        lines({"prompt": "p", "completion": "c"}), lines({"prompt": chat, "completion": answered[-1:]}),
    ]
    seeds = []
    for number, shape in enumerate(shapes):
        seeds += [bytes([0x40 + number % 6]) + shape, b"F" + shape, b"g" + shape]
    seeds.append(b"I" + shapes[7])
    seeds.append(b"H" + lines({"prompt_ids": [1, 2], "completions": [[3, 8], [4]], "rewards": [1, 0.5]}))
    seeds.append(b"@" + gzip.compress(shapes[0], mtime=0))
    return seeds


def columns_seeds():
    rows = b'prompt,answer,n\r\n"1+1, ""x""?\n",2,\r\nb,NA,1.5\n\nc,True,7\n'
    card = b"---\nlicense: mit\nconfigs:\n- config_name: main\n  default: true\n  data_files:\n  - split: train\n    path: main/*\n" \
           b"- config_name: b\n  data_files: ['a.jsonl', \"b\"]\n---\n"
    seeds = [b"c" + rows, b"t" + rows.replace(b",", b"\t"), b"h" + card, b"g" + gzip.compress(rows, mtime=0), b"s\xe8\x07\x04ab\x0e\x02\x00"]
    # A frame of zstd with the rows as they are: magic, a single segment with its size, one raw block, the last.
    block = (len(rows) << 3 | 1).to_bytes(3, "little")
    seeds.append(b"z\x28\xb5\x2f\xfd\x20" + bytes([len(rows)]) + block + rows)
    return seeds + [b"p" + vector("data_files/" + name) for name in
                    ("snappy.parquet", "zstd-pages-2.parquet", "delta.parquet", "gzip-plain.parquet", "lz4.parquet")]


def answer_seeds():
    pairs = json.loads(vector("rewards/math_pairs.json"))
    seeds = [f"{p['completion']}\x1e{p['gold']}" for p in pairs[::max(1, len(pairs) // 40)]]
    return seeds[:40]


def state_seeds():
    state = {"format": 1, "global_step": 2, "data_position": 4, "num_tokens": 100, "prompts_truncated": 0, "skipped_steps": 1,
             "optimizer_step": 1, "base_fingerprint": "00ff", "reference": "base", "data_fingerprint": "1234567890abcdef",
             "metrics_offset": 10, "completions_offset": 20, "eval_fingerprint": "01", "last_eval_step": 1,
             "best_metric": 0.5, "best_reward": 1.0, "best_global_step": 1, "best_model_checkpoint": "checkpoint-1",
             "elapsed_seconds": 1.5, "schedule": [[1, 10]], "rewards": [0.1, 0.2],
             "options": {"lora_target_modules": "q_proj,v_proj", "adapter": "a (12)", "seed": "3"}}
    sft = {"trainer": "sft", "global_step": 2, "num_tokens": 100, "skipped_steps": 0, "optimizer_step": 2,
           "base_fingerprint": "1", "data_fingerprint": "2", "metrics_offset": 3, "last_eval_step": 1, "eval_loss": 0.5,
           "options": {}}
    completion = {"ids": [1, 2], "sampling_logprobs": [-0.5, -1], "old_logprobs": [], "text": "t", "terminated": True,
                  "counted": True, "reward_values": [1, None], "reward": 1, "advantage": 0.5}
    experience = {"frac_reward_zero_std": 0, "data_position": 4, "discarded_groups": 0, "prompts_truncated": 0,
                  "completion_tokens": 4,
                  "groups": [{"prompt_ids": [1], "question": "q", "answer": "a", "completions": [completion, completion]}]}
    adapter = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    return [dumps(state) + SPLIT + dumps(experience) + SPLIT + dumps(adapter), dumps(sft) + SPLIT + SPLIT + dumps(adapter)]


def config_seeds():
    config = json.loads(vector("tiny_qwen2/config.json"))
    five = dict(config, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, eos_token_id=[1, 2])
    five.pop("rope_theta")
    scaled = dict(config, rope_scaling={"type": "yarn", "factor": 4.0}, use_sliding_window=True,
                  quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    generation = vector("tiny_qwen2/generation_config.json")
    return [dumps(config) + SPLIT + generation, dumps(five), dumps(scaled) + SPLIT + b'{"top_k":50,"top_p":0.9,"temperature":0.7}']


def adapter_seeds():
    plain = json.loads(vector("lora/adapter/adapter_config.json"))
    short = {"peft_type": "LORA", "r": 8, "lora_alpha": 16}
    return map(dumps, [
        plain, dict(short, target_modules="all-linear", exclude_modules=["o_proj"], layers_to_transform=[0]),
        dict(short, target_modules=".*\\.(q|v)_proj", rank_pattern={"^model.layers.0.*q_proj": 4}, alpha_pattern={"v_proj": 2}),
        dict(short, target_modules=["q_proj"], layers_to_transform=1, layers_pattern=["layers", "h"], use_rslora=True)])


def toml_seeds():
    with open(os.path.join(HERE, "..", "..", "examples", "gsm8k-qwen2.5-3b.toml"), "rb") as file:
        example = file.read()
    return [example, "max_steps = 3\nlearning-rate = 1e-5\nlora_target_modules = [\"q_proj\", 'v_proj']\nshuffle = true\n",
            "seed = 0x10\nlora_r = 8\nmax_memory = \"2GB\"\ntemperature = inf\n[a]\nb = 1\n", "a = 1979-05-27T07:32:00Z\n"]


PTX = """.version 8.4
.target sm_80
.address_size 64
.file 1 "k.cu"
.extern .shared .align 16 .b8 dynamic[];
.global .align 4 .u32 table[4] = {1, 2, 0x3, -4};
.const .f32 c = 0f3F800000;
.func (.param .b32 r) f(.param .b32 a) { .reg .b32 %r<3>; ld.param.u32 %r1, [a]; add.s32 %r2, %r1, 1; st.param.b32 [r], %r2; ret; }
.visible .entry k(.param .u64 .ptr .global .align 4 k_0, .param .u32 k_1)
.maxntid 256, 1, 1
{
  .reg .pred %p<3>; .reg .b16 %rs<4>; .reg .f32 %f<6>; .reg .b32 %r<9>; .reg .b64 %rd<5>;
  .shared .align 4 .b8 tile[64];
  .loc 1 7 0
  ld.param.u64 %rd1, [k_0];
  ld.param.u32 %r2, [k_1];
  mov.u32 %r3, %ctaid.x;
  mad.lo.s32 %r1, %r3, 32, %r2;
  setp.ge.s32 %p1, %r1, %r2;
  @%p1 bra $L2;
  cvta.to.global.u64 %rd2, %rd1;
  mul.wide.s32 %rd3, %r1, 4;
  add.s64 %rd4, %rd2, %rd3;
  ld.global.v2.f32 {%f1, %f2}, [%rd4+8];
  fma.rn.ftz.f32 %f3, %f1, %f2, 0f3F000000;
  cvt.rn.bf16x2.f32 %r4, %f1, %f2;
  shfl.sync.bfly.b32 %r5|%p2, %r4, 16, 31, -1;
  atom.global.add.u32 %r6, [%rd4], 1;
  ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r7, %r8}, [%r5];
  cp.async.cg.shared.global [%r5], [%rd4], 16;
  bar.sync 0;
  { .param .b32 p0; .param .b32 r0; st.param.b32 [p0], %r1; call.uni (r0), f, (p0); ld.param.b32 %r7, [r0]; }
  prmt.b32 %r8, %r7, 0, 0x3210;
  st.global.f32 [%rd4], %f3;
$L2:
  ret;
}
"""


def ptx_seeds():
    head = ".version 8.0\n.target sm_80\n.address_size 64\n"
    bodies = ["mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0,%f1,%f2,%f3}, {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%f0,%f1,%f2,%f3};",
              "ts: .branchtargets L0, L1; brx.idx %r0, ts; L0: L1: vote.sync.ballot.b32 %r1, %p1, -1; redux.sync.add.s32 %r2, %r1, -1; ret;",
              "lop3.b32 %r0, %r1, %r2, %r3, 0x96; bfe.u32 %r1, %r2, 4, 8; shf.l.wrap.b32 %r2, %r1, %r0, 3; ex2.approx.ftz.f32 %f0, %f1; sin.approx.f32 %f1, %f0;",
              "ld.volatile.shared.u8 %rs1, [s+3]; selp.b32 %r0, %r1, %r2, !%p1; sub.cc.u32 %r0, %r1, %r2; subc.u32 %r1, %r2, 0; trap;"]
    kernels = [head + ".shared .align 16 .b8 s[64];\n.entry k()\n{ .reg .pred %p<3>; .reg .b16 %rs<4>; .reg .b32 %r<9>; .reg .f32 %f<9>;\n"
               + body + "\n}\n" for body in bodies]
    return [PTX] + kernels


def fatbin_seeds():
    def container(entries):
        out = b""
        for kind, architecture, payload, compressed in entries:
            payload += b"\0" * (8 - len(payload) % 8)
            header = struct.pack("<HHIQIIHHIIIQ", kind, 0x101, 72, len(payload), compressed, 0, 0, 9, architecture, 64, 4, 0)
            out += header.ljust(64, b"\0") + b"a.cu\0\0\0\0" + payload
        return struct.pack("<IHHQ", 0xba55ed50, 1, 16, len(out)) + out
    text = b".version 8.0\n.target sm_80\n.address_size 64\n"
    return [container([(2, 89, b"cubin", 0), (1, 80, text, 0)]), container([(1, 90, text, 0), (1, 89, text, 8)]), container([])]


def sentencepiece_seeds():
    model = vector("tokenizer/sentencepiece_llama/tokenizer.model")
    config = {"add_bos_token": True, "add_eos_token": False, "legacy": False,
              "added_tokens_decoder": {"0": {"content": "<unk>", "special": True}}}
    return [SPLIT + model, dumps(config) + SPLIT + model]


def weights_seeds():
    """A layer's norm, a linear, and one in bitsandbytes' 4 bits, with and without an index."""
    def file(tensors):
        header, data = {}, b""
        for name, (dtype, shape, content) in sorted(tensors.items()):
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
            data += content
        return safetensors_file(header, data)

    def floats(*values):
        return struct.pack(f"<{len(values)}f", *values)
    plain = {"model.norm.weight": ("F32", [8], floats(*range(8))), "lm_head.weight": ("BF16", [2, 8], bytes(32)),
             "model.layers.0.self_attn.q_proj.weight": ("F16", [2, 8], bytes(32)), "visual.x": ("I64", [1], bytes(8))}
    layer = "model.layers.0."
    whole = dict(plain, **{layer + norm: ("F16", [1], bytes(2))
                           for norm in ("input_layernorm.weight", "post_attention_layernorm.weight")})
    whole.update({layer + f"self_attn.{p}_proj.bias": ("F16", [1], bytes(2)) for p in "qkv"})
    whole.update({layer + f"self_attn.{p}_proj.weight": ("F16", [1], bytes(2)) for p in "kvo"})
    whole.update({layer + f"mlp.{p}_proj.weight": ("F16", [1], bytes(2)) for p in ("gate", "up", "down")})
    name = "model.layers.0.mlp.up_proj.weight"
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [2, 64], "nested_blocksize": 256,
             "nested_dtype": "float32", "nested_offset": 0.5}
    packed = {name: ("U8", [64, 1], bytes(range(64))), name + ".quant_map": ("F32", [16], floats(*range(16)))}
    nested = dict(packed, **{
        name + ".absmax": ("U8", [2], b"\1\2"), name + ".nested_absmax": ("F32", [1], floats(1.5)),
        name + ".nested_quant_map": ("F32", [256], floats(*range(256))),
        name + ".quant_state.bitsandbytes__nf4": ("U8", [len(dumps(state))], dumps(state))})
    state = dict(state, quant_type="fp4", blocksize=32)
    flat = dict(packed, **{name + ".absmax": ("F32", [4], floats(1, 2, 3, 4)),
                           name + ".quant_state.bitsandbytes__fp4": ("U8", [len(dumps(state))], dumps(state))})
    index = {"metadata": {"total_size": 1}, "weight_map": {"model.norm.weight": "part.safetensors"}}
    return [SPLIT + file(plain), SPLIT + file(nested), SPLIT + file(flat), dumps(index) + SPLIT + file(plain),
            SPLIT + file(whole)]


def reward_answer_seeds():
    answer = {"id": 7, "rewards": [[1, None], [0.5, -2]], "extra": {"note": ["a", {"b": 1}]}, "metrics": {"m": 0.5, "n": None}}
    failed = {"id": 7, "error": "it\nfails", "reward": 1, "traceback": "Traceback:\n  line"}
    return [b"e" + dumps(answer), b"e" + dumps(failed), b"a" + dumps({"rewards": [1, None]}), b"a[1,2]", b"aNaN", b"`{}"]


def hub_seeds():
    oid = "0123456789abcdef0123456789abcdef01234567"
    files = [{"type": "file", "path": "config.json", "oid": oid, "size": 12}, {"type": "directory", "path": "d", "oid": oid},
             {"type": "file", "path": "d/model.safetensors", "oid": oid, "size": 130, "xetHash": "1",
              "lfs": {"oid": "sha256:" + oid + oid[:24], "size": 1 << 33}}]
    head = "HTTP/1.1 200 OK\r\nLink: <https://a/b?cursor=1>; rel=\"next\", </c>; rel=\"prev\"\r\nRetry-After: 3\r\n"
    return [head.encode() + b"\r\n" + dumps(files), b"\n" + dumps({"sha": oid}),
            b"X-Error-Message: no such thing\nX-Error-Code: GatedRepo\n\n" + dumps({"error": "words"})]


def main():
    for name, call in sorted(globals().items()):
        if name.endswith("_seeds"):
            write(name[:-len("_seeds")], list(call()))


if __name__ == "__main__":
    main()
