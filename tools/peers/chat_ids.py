"""Token ids of conversations and of raw text against transformers, for tokenizers that put tokens around a text.

    chat_ids.py PROGRAM

The demo's tokenizer gets the post-processors of Llama 3, DeepSeek and Gemma (a token before every text), one that also
puts a token behind it, and none; templates with and without a begin-of-text token. Compared: `tokenize` of messages
with apply_chat_template(tokenize=True), of raw text with the tokenizer's call; the same from the GGUF file that
`export` makes; the number of tokens that `sft` learns from; and what ends a completion.

Needs: transformers jinja2
"""
import json
import os
import re
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import AutoTokenizer  # noqa: E402

BODY = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
TEMPLATES = {"with a begin-of-text token": "{{ bos_token }}" + BODY, "without": BODY}
CONVERSATIONS = [
    [{"role": "user", "content": "Tom has 3 apples."}],
    [{"role": "system", "content": "Add."}, {"role": "user", "content": "a"},
     {"role": "assistant", "content": "\n 9 apples"}, {"role": "user", "content": "<|im_end|> b"}],
]
LEARNED = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\n\nb"},
           {"role": "user", "content": "c"}, {"role": "assistant", "content": " d"}]
TEXTS = ["Tom has 3 apples.", "", "<|im_start|>a"]


def run(program, *arguments, data=""):
    done = subprocess.run([program, *arguments], input=data, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{arguments}: {done.stderr}")
    return done.stdout


def post_processor(before, behind, ids):
    single = [{"SpecialToken": {"id": t, "type_id": 0}} for t in before] + [{"Sequence": {"id": "A", "type_id": 0}}]
    single += [{"SpecialToken": {"id": t, "type_id": 0}} for t in behind]
    return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in before + behind}}


def ids_of(tokenizer, messages, prompt):
    out = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=prompt)
    return out if isinstance(out, list) else out["input_ids"]


def main():
    program = sys.argv[1]
    wrong = compared = 0

    def check(what, found, expected):
        nonlocal wrong, compared
        compared += 1
        if found != expected:
            wrong += 1
            print(f"{what}\n  qgrpo        {found}\n  transformers {expected}")

    with tempfile.TemporaryDirectory() as scratch:
        folder = scratch + "/model"
        run(program, "sft", "--make-demo-model", folder, "--max-steps", "1", "--device", "cpu")
        plain = json.load(open(folder + "/tokenizer.json"))
        config = json.load(open(folder + "/tokenizer_config.json"))
        ids = {t["content"]: t["id"] for t in plain["added_tokens"]}
        start, end = "<|endoftext|>", "<|im_end|>"
        for around, before, behind in (("none", [], []), ("before", [start], []), ("both", [start], [end])):
            changed = dict(plain)
            if before:
                changed["post_processor"] = {"type": "Sequence", "processors": [
                    plain["post_processor"], post_processor(before, behind, ids)]}
            json.dump(changed, open(folder + "/tokenizer.json", "w"))
            for name, template in TEMPLATES.items():
                json.dump({**config, "bos_token": start, "eos_token": end, "chat_template": template},
                          open(folder + "/tokenizer_config.json", "w"))
                theirs = AutoTokenizer.from_pretrained(folder)
                gguf = f"{scratch}/{around}.gguf"
                run(program, "export", "--model", folder, "--to", "gguf", "--gguf-type", "F16", "--output", gguf,
                    "--overwrite")
                lines = [json.dumps(t) for t in TEXTS]
                expected = [theirs(t)["input_ids"] for t in TEXTS]
                for messages in CONVERSATIONS:
                    for prompt in (False, True):
                        lines.append(json.dumps({"messages": messages, "add_generation_prompt": prompt}))
                        expected.append(ids_of(theirs, messages, prompt))
                for model in (folder, gguf):
                    out = run(program, "tokenize", "--model", model, data="\n".join(lines) + "\n").splitlines()
                    for line, found, wanted in zip(lines, out, expected):
                        check(f"around: {around}, template {name}, {model}: {line}", json.loads(found)["ids"], wanted)
                with open(scratch + "/data.jsonl", "w") as file:
                    file.write(json.dumps({"messages": LEARNED}) + "\n")
                said = run(program, "sft", "--model", folder, "--quantize", "none", "--device", "cpu", "--dataset",
                           scratch + "/data.jsonl", "--max-steps", "1", "--lora-r", "2", "--output-dir",
                           scratch + "/sft", "--overwrite-output-dir")
                check(f"sft, around: {around}, template {name}", int(re.search(r"(\d+) tokens", said)[1]),
                      len(ids_of(theirs, LEARNED, False)))
    print(f"{compared} compared, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
