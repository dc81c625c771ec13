"""A small random model with a real tokenizer, for comparisons that need no download."""
import json
import os

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers, normalizers

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
           r"\s*[\r\n]+|\s+(?!\S)|\s+")
CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
          "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
TEXT = ["The quick brown fox jumps over 12 lazy dogs, doesn't it? Été, naïve; straße.\n" * 3,
        "def f(x):\n    return x + 1\n\nQuestion: how many loaves does a baker sell in a day?\nAnswer: 36\n"] * 20


def write(folder, hidden=256, layers=2, vocab=512, tied=True, dtype=torch.bfloat16, seed=0, kind="Qwen2",
          **more):
    """A model with rows that every GGUF block size divides. Returns the transformers model. `kind`: the family, as
    transformers' classes begin; `more`: keys of its configuration."""
    os.makedirs(folder, exist_ok=True)
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel(add_prefix_space=False, use_regex=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tok.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=vocab - 40, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tok.add_special_tokens(special)
    ids = {s: tok.token_to_id(s) for s in special}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<|im_end|>",
                                                pad_token="<|endoftext|>", chat_template=CHATML)
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    keys = dict(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=tied,
        bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"])
    config = getattr(transformers, kind + "Config")(**{**keys, **more})
    model = getattr(transformers, kind + "ForCausalLM")(config)
    with torch.no_grad():
        for name, p in model.named_parameters():  # decided logits that a rounding does not turn over, biases that matter
            if name.endswith("bias"):
                p.normal_(0, 0.1)
            elif "embed" in name or "lm_head" in name:
                p.normal_(0, 0.3)
            elif p.ndim == 2:
                p.normal_(0, 0.6 / hidden ** 0.5)
    model.to(dtype).save_pretrained(folder)
    return model
