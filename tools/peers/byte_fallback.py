#!/usr/bin/env python3
"""SentencePiece vocabularies in tokenizer.json alone against tokenizers. Usage: byte_fallback.py QGRPO; byte_fallback.py --vectors FOLDER.

Needs: protobuf sentencepiece tokenizers.
"""
import json
import os
import random
import subprocess
import sys
import tempfile

from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "vectors", "tokenizer", "sentencepiece_llama", "tokenizer.model")
SPACE = "\u2581"
TEXTS = ["", "Hello world", " leading", "two  spaces   three", "Ada Lovelace", "héllo wörld", "日本語 text", "tab\there\nnewline\r\n", "🙂 emoji",
         "a</s>b", "<s>x", " </s> y", "x <|im_end|>y", "<|im_end|>", "123 4567", "don't  stop", SPACE + " sign", "   ", "\n\n", "ünïcödé ÀÉÎ"]
FORMS = ("normalizers", "metaspace_first", "metaspace_always")


def random_texts(count, seed):
    rng = random.Random(seed)
    parts = ["Ada", " ", "the", "e", "ing", "  ", "é", "日", "\n", "</s>", "x", "and ", "Love", "🙂", "<|im_end|>", "."]
    return ["".join(rng.choice(parts) for _ in range(rng.randrange(1, 14))) for _ in range(count)]


def vocabulary():
    """Vocabulary and merges as transformers converts them."""
    model = sentencepiece_model_pb2.ModelProto()
    with open(MODEL, "rb") as f:
        model.ParseFromString(f.read())
    vocab = {p.piece: i for i, p in enumerate(model.pieces)}
    merges = []
    for p in model.pieces:
        if p.type != 1:
            continue
        splits = [(p.piece[:k], p.piece[k:]) for k in range(1, len(p.piece))]
        splits = sorted((s for s in splits if s[0] in vocab and s[1] in vocab), key=lambda s: (vocab[s[0]], vocab[s[1]]))
        merges += [(a, b, p.score) for a, b in splits]
    merges.sort(key=lambda m: m[2], reverse=True)
    return vocab, [(a, b) for a, b, _ in merges]


def converted(form):
    vocab, merges = vocabulary()
    t = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if form == "normalizers":
        t.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    else:
        t.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=form.split("_")[1], split=False)
    t.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(x, normalized=False, special=True) for x in ("<unk>", "<s>", "</s>", "<|im_end|>")])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return t


def write_vectors(folder):
    """tests/vectors/tokenizer/byte_fallback: one vocabulary, the forms of what is around it, and their ids."""
    os.makedirs(folder, exist_ok=True)
    out = []
    for form in FORMS:
        t = converted(form)
        root = json.loads(t.to_str())
        if not out:
            with open(f"{folder}/tokenizer.json", "w") as f:
                json.dump(root, f, ensure_ascii=False)
        encodings = [{"text": x, "ids": t.encode(x).ids} for x in TEXTS + random_texts(60, 3)]
        out.append({"form": form, "normalizer": root["normalizer"], "pre_tokenizer": root["pre_tokenizer"], "encodings": encodings})
    with open(f"{folder}/golden.json", "w") as f:
        json.dump(out, f, ensure_ascii=False)


def main(program):
    with tempfile.TemporaryDirectory() as work:
        for form in FORMS:
            t, texts = converted(form), TEXTS + random_texts(2000, 9)
            t.save(f"{work}/tokenizer.json")
            lines = "".join(json.dumps(text) + "\n" for text in texts)
            done = subprocess.run([program, "tokenize", "--model", work], input=lines, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stderr)
            for text, line in zip(texts, done.stdout.splitlines()):
                ours, theirs = json.loads(line)["ids"], t.encode(text).ids
                assert ours == theirs, (form, text, ours, theirs)
            print(f"byte_fallback {form}: {len(texts)} texts have the ids of tokenizers")


if __name__ == "__main__":
    write_vectors(sys.argv[2]) if sys.argv[1] == "--vectors" else main(sys.argv[1])
