"""Writes a model folder, as Hugging Face's, of random weights: for timing a shape that nobody has to download.

    random_model.py SHAPE FOLDER TOKENIZER      SHAPE: 3b or 0.5b (Qwen2.5's), tiny; TOKENIZER: the folder whose files it gets
"""

import json
import os
import random
import struct
import sys
import time
from concurrent.futures import ProcessPoolExecutor

SHAPES = {  # hidden, blocks, heads, key-value heads, head size, feed-forward, the last norm's weight as bf16
    "3b": (2048, 36, 16, 2, 128, 11008, 0x4090), "0.5b": (896, 24, 14, 2, 64, 4864, 0x40D8),
    "tiny": (128, 2, 4, 2, 32, 256, 0x4190)}
# Few and narrow blocks have to be louder, or the tied head repeats the last token.
LOUDER = {"tiny": 1}
VOCABULARY = 151936


def tensors(shape):
    hidden, blocks, heads, kv_heads, size, wide, last = SHAPES[shape]
    q, kv = heads * size, kv_heads * size
    yield "model.embed_tokens.weight", (VOCABULARY, hidden), None
    for i in range(blocks):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", (hidden,), 0x3F80
        yield at + "post_attention_layernorm.weight", (hidden,), 0x3F80
        for name, rows in (("q", q), ("k", kv), ("v", kv)):
            yield f"{at}self_attn.{name}_proj.weight", (rows, hidden), None
            yield f"{at}self_attn.{name}_proj.bias", (rows,), None
        yield at + "self_attn.o_proj.weight", (hidden, q), None
        yield at + "mlp.gate_proj.weight", (wide, hidden), None
        yield at + "mlp.up_proj.weight", (wide, hidden), None
        yield at + "mlp.down_proj.weight", (hidden, wide), None
    yield "model.norm.weight", (hidden,), last


# bf16 of random sign, random mantissa and one of two exponents: 0.0078 to 0.031 in size, 0.019 in the mean square.
# The high byte is the sign and the exponent's upper bits, whose value 60 is 2^-7 or 2^-6, and each more four times that.
HIGH = [bytes((b & 0x80) | 60 + louder for b in range(256)) for louder in range(2)]


def write_part(job):
    path, offset, size, seed, constant, louder = job
    if constant is not None:
        data = struct.pack("<H", constant) * (size // 2)
    else:
        data = bytearray(random.Random(seed).randbytes(size))
        data[1::2] = data[1::2].translate(HIGH[louder])
    file = os.open(path, os.O_WRONLY)
    os.pwrite(file, data, offset)
    os.close(file)


def write(shape, folder, tokenizer):
    """A folder as Hugging Face's, of random weights that are the same each time: the output's logits have a deviation
    of about 4 (3 to 5 nats of entropy), as the last norm's weight makes them."""
    begun = time.time()
    hidden, blocks, heads, kv_heads, _, wide, _ = SHAPES[shape]
    os.makedirs(folder, exist_ok=True)
    header, offset, parts = {"__metadata__": {"format": "pt"}}, 0, []
    path, chunk = folder + "/model.safetensors", 16 << 20
    for name, dims, constant in tensors(shape):
        size = 2
        for d in dims:
            size *= d
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [offset, offset + size]}
        for at in range(0, size, chunk):
            louder = LOUDER.get(shape, 0) if name.endswith("proj.weight") else 0
            parts.append([path, offset + at, min(chunk, size - at), len(parts), constant, louder])
        offset += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        f.truncate(8 + len(head) + offset)
    for part in parts:
        part[1] += 8 + len(head)
    try:
        with ProcessPoolExecutor(max(1, (os.cpu_count() or 2) - 4)) as pool:
            list(pool.map(write_part, parts, chunksize=4))
    except OSError:  # without /dev/shm there are no semaphores for other processes
        for part in parts:
            write_part(part)
    json.dump({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": hidden,
               "num_hidden_layers": blocks, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
               "intermediate_size": wide, "vocab_size": VOCABULARY, "max_position_embeddings": 32768,
               "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": True, "hidden_act": "silu",
               "bos_token_id": 151643, "eos_token_id": 151645, "torch_dtype": "bfloat16"},
              open(folder + "/config.json", "w"))
    json.dump({"do_sample": True, "bos_token_id": 151643, "pad_token_id": 151643, "eos_token_id": [151645, 151643]},
              open(folder + "/generation_config.json", "w"))
    for name in os.listdir(tokenizer):
        with open(f"{tokenizer}/{name}", "rb") as a, open(f"{folder}/{name}", "wb") as b:
            b.write(a.read())
    print(f"{shape}: {offset / 1e9:.2f} GB in {time.time() - begun:.1f} s")


if __name__ == "__main__":
    write(*sys.argv[1:])
