#!/usr/bin/env python3
"""qgrpo serve as its clients see it, on a tiny model that the program makes by itself. Standard library alone.

    tests/serve/serve.py --program build/qgrpo [--only NAME]
"""

import argparse
import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

QUESTION = [{"role": "user", "content": "Ben has 6 cards and buys 6 more. How many cards does Ben have now?"}]


class Server:
    """The program, listening on a port of its own choice."""

    def __init__(self, program, *arguments, environment=None):
        self.process = subprocess.Popen([program, "serve", "--port", "0", "--threads", "2", *arguments], stderr=subprocess.PIPE,
                                        env={**os.environ, **(environment or {})}, text=True)
        self.line = self.process.stderr.readline()
        match = re.search(r" at http://(\S+):(\d+) ", self.line)
        assert match, self.line
        self.host, self.port = match[1], int(match[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, sign=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sign)
        code = self.process.wait(timeout=60)
        self.process.stderr.close()
        return code

    def ask(self, path, body=None, headers=None, method=None):
        """Status and body, JSON where it is."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def get(self, path, body=None, **options):
        status, answer = self.ask(path, body, **options)
        assert status == 200, (status, answer)
        return answer

    def chat(self, **fields):
        return self.get("/v1/chat/completions", {"messages": QUESTION, **fields})

    def complete(self, **fields):
        return self.get("/v1/completions", fields)

    def refused(self, path, body, status, *names):
        found, answer = self.ask(path, body)
        assert found == status, (found, answer)
        error = answer["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["code"] == status, error
        assert "\n" not in error["message"], error
        for name in names:
            assert name == error["param"] or name in error["message"], (name, error)

    def raw(self, text, timeout=60):
        """A socket that has sent this."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        connection.sendall(text.encode() if isinstance(text, str) else text)
        return connection

    def stream(self, path, body):
        """The events of a streamed answer, which must end with [DONE]."""
        data = json.dumps({**body, "stream": True}).encode()
        with self.raw(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
                      .encode() + data) as connection:
            text = b"".join(iter(lambda: connection.recv(65536), b""))
        head, rest = text.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200 ") and b"text/event-stream" in head, head
        events = b""
        while rest:  # chunks
            size, rest = rest.split(b"\r\n", 1)
            events, rest = events + rest[:int(size, 16)], rest[int(size, 16) + 2:]
            if int(size, 16) == 0:
                break
        lines = events.decode().split("\n\n")  # whole characters: else this fails
        assert lines[-1] == "" and lines[-2] == "data: [DONE]", lines[-3:]
        assert all(line.startswith("data: ") for line in lines[:-1]), lines
        return [json.loads(line[len("data: "):]) for line in lines[:-2]]

    def metric(self, name, **labels):
        for line in self.get("/metrics").splitlines():
            if line.startswith(name + "{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(name)

    def wait_idle(self):
        for _ in range(400):
            if self.metric("vllm:num_requests_running") == 0 and self.metric("vllm:kv_cache_usage_perc") == 0:
                return
            time.sleep(0.025)
        raise AssertionError("requests or blocks are left")


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


class Tests:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.model = os.path.join(folder, "model")
        self.adapter = os.path.join(folder, "run", "checkpoint-20")
        self.run("sft", "--make-demo-model", self.model, "--max-steps", "20", "--seed", "1", "--threads", "2")
        texts = os.path.join(folder, "texts.jsonl")
        with open(texts, "w", encoding="utf-8") as file:
            file.write('{"text": "6 and 6 are 12"}\n{"text": "one and two"}\n')
        self.run("sft", "--model", self.model, "--quantize", "none", "--dataset", texts, "--max-steps", "20", "--learning-rate", "0.05",
                 "--output-dir", os.path.join(folder, "run"), "--threads", "2")
        assert os.path.exists(os.path.join(self.adapter, "adapter_config.json")), os.listdir(os.path.join(folder, "run"))

    def run(self, *arguments, text=""):
        done = subprocess.run([self.program, *arguments], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self, *arguments, **options):
        return Server(self.program, "--model", self.model, "--quantize", "none", "--served-model-name", "demo", *arguments, **options)

    # ---------------------------------------------------------------- answers

    def test_same_as_generate(self):
        """A seed's completion is the one of `generate`, whatever runs beside it."""
        lines = self.run("generate", "--model", self.model, "--quantize", "none", "--seed", "7", "--max-tokens", "40", "-n", "2",
                         text=json.dumps({"messages": QUESTION}) + "\n")
        wanted = json.loads(lines)["completions"]
        with self.serve() as server:
            def ask(number):
                if number % 3 == 0:
                    answer = server.chat(seed=7, n=2, max_tokens=40, logprobs=True, return_token_ids=True)
                    for choice, completion in zip(answer["choices"], wanted):
                        assert choice["message"]["content"] == completion["text"]
                        assert choice["token_ids"] == completion["ids"]
                        assert [t["logprob"] for t in choice["logprobs"]["content"]] == completion["logprobs"]
                        assert choice["finish_reason"] == completion["finish_reason"]
                    assert answer["usage"]["completion_tokens"] == sum(len(c["ids"]) for c in wanted)
                elif number % 3 == 1:
                    server.complete(prompt="x" * number, max_tokens=number, top_k=5, repetition_penalty=1.1)
                else:
                    server.stream("/v1/completions", {"prompt": ["some", "more"], "max_tokens": 20, "n": 2})
            with concurrent.futures.ThreadPoolExecutor(24) as pool:
                list(pool.map(ask, range(60)))
            server.wait_idle()
            # Those with the same prompt shared its cache.
            assert server.metric("vllm:prefix_cache_hits_total") > 16 * 10
        with self.serve("--no-enable-prefix-caching") as server:
            for _ in range(3):
                ask(0)
            assert server.metric("vllm:prefix_cache_hits_total") == 0

    def test_streams(self):
        with self.serve() as server:
            for fields in ({}, {"n": 3}, {"stop": ["0", "9"]}, {"logprobs": True, "top_logprobs": 3}):
                fields = {"messages": QUESTION, "seed": 3, "max_tokens": 48, **fields}
                whole = server.get("/v1/chat/completions", fields)
                events = server.stream("/v1/chat/completions", {**fields, "stream_options": {"include_usage": True}})
                assert events[-1]["choices"] == [] and events[-1]["usage"] == whole["usage"]
                for wanted in whole["choices"]:
                    mine = [e["choices"][0] for e in events[:-1] if e["choices"][0]["index"] == wanted["index"]]
                    assert mine[0]["delta"] == {"role": "assistant", "content": ""}
                    assert "".join(m["delta"]["content"] for m in mine) == wanted["message"]["content"]
                    assert [m["finish_reason"] for m in mine] == [None] * (len(mine) - 1) + [wanted["finish_reason"]]
                    assert mine[-1]["stop_reason"] == wanted["stop_reason"]
                    if "logprobs" in fields:
                        assert sum((m["logprobs"]["content"] for m in mine if m["logprobs"]), []) == wanted["logprobs"]["content"]
            fields = {"prompt": ["6 +", [54, 71]], "n": 2, "seed": 5, "max_tokens": 12, "logprobs": 2, "echo": True, "temperature": 2}
            whole = server.get("/v1/completions", fields)
            events = server.stream("/v1/completions", fields)
            assert len(whole["choices"]) == 4
            for wanted in whole["choices"]:
                mine = [e["choices"][0] for e in events if e["choices"][0]["index"] == wanted["index"]]
                assert "".join(m["text"] for m in mine) == wanted["text"]
                for name, values in wanted["logprobs"].items():
                    assert sum((m["logprobs"][name] for m in mine), []) == values, name

    def test_scores(self):
        """echo and logprobs: what `score` says, and the likeliest token beside it."""
        texts = ["6 and 6 are 12", "Ben has 6 cards", "x"]
        lines = self.run("score", "--model", self.model, "--quantize", "none",
                         text="".join(json.dumps({"text": t}) + "\n" for t in texts)).splitlines()
        with self.serve() as server:
            prompts = [json.loads(line)["ids"] for line in lines]
            for prompt, more in ((texts, {"max_tokens": 0}), (prompts, {"max_tokens": 1, "temperature": 0, "seed": 1})):
                answer = server.complete(prompt=prompt, echo=True, logprobs=1, **more)
                for choice, line, text in zip(answer["choices"], lines, texts):
                    found, wanted = choice["logprobs"], json.loads(line)["logprobs"]
                    assert found["token_logprobs"][:len(wanted)] == wanted
                    assert choice["text"].startswith(text) and "".join(found["tokens"][:len(wanted)]) == text
                    assert found["text_offset"][:len(wanted)] == [len("".join(found["tokens"][:i])) for i in range(len(wanted))]
                    assert found["top_logprobs"][0] is None
                    for value, top in zip(wanted[1:], found["top_logprobs"][1:]):
                        assert value <= max(top.values()) and 1 <= len(top) <= 2

    def test_fields(self):
        with self.serve() as server:
            greedy = server.chat(temperature=0, max_tokens=20)
            assert text_of(greedy) == text_of(server.chat(top_k=1, max_completion_tokens=20, max_tokens=3))
            assert text_of(server.chat(temperature=0, max_tokens=20, messages=[
                {"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"]}], "name": None}])) == text_of(greedy)
            stop = text_of(greedy)[5:8]
            cut = server.chat(temperature=0, max_tokens=20, stop=stop)["choices"][0]
            assert cut["message"]["content"] == text_of(greedy)[:text_of(greedy).index(stop)]
            assert cut["finish_reason"] == "stop" and cut["stop_reason"] == stop
            kept = server.chat(temperature=0, max_tokens=20, stop=[stop], include_stop_str_in_output=True)["choices"][0]
            assert kept["message"]["content"] == cut["message"]["content"] + stop
            ids = server.chat(temperature=0, max_tokens=20, return_token_ids=True)
            third = ids["choices"][0]["token_ids"][2]
            by_id = server.chat(temperature=0, max_tokens=20, stop_token_ids=[third], ignore_eos=True, return_token_ids=True)["choices"][0]
            assert by_id["token_ids"][-1] == third and by_id["finish_reason"] == "stop" and by_id["stop_reason"] == third
            assert ids["prompt_token_ids"] == server.get("/tokenize", {"messages": QUESTION})["tokens"]
            assert ids["usage"]["prompt_tokens"] == len(ids["prompt_token_ids"])
            # Without max_tokens: as far as there is room.
            long = server.chat(ignore_eos=True)
            assert long["usage"]["total_tokens"] == 512 and long["choices"][0]["finish_reason"] == "length"
            # What would overflow is bounded: a draw that failed would fail for all that run.
            server.chat(temperature=1e-38, repetition_penalty=0.001, max_tokens=20)
            # What changes nothing is accepted, and so is what is not known.
            server.chat(max_tokens=1, user="me", logit_bias={}, response_format={"type": "text"}, presence_penalty=0,
                        frequency_penalty=0.0, parallel_tool_calls=True, metadata={"a": 1}, store=False, tools=None, seed=None, stop=None)
            top = server.chat(max_tokens=3, temperature=0, logprobs=True, top_logprobs=5)["choices"][0]["logprobs"]["content"]
            for token in top:
                assert len(token["top_logprobs"]) == 5 and token["logprob"] == token["top_logprobs"][0]["logprob"]
                assert bytes(token["bytes"]).decode("utf-8", "replace") == token["token"]

    def test_adapters(self):
        with self.serve("--lora-modules", f"one={self.adapter}") as server:
            names = [m["id"] for m in server.get("/v1/models")["data"]]
            assert names == ["demo", "one"], names
            assert server.get("/v1/models/one")["parent"] == "demo"
            base, one = (text_of(server.chat(model=name, temperature=0, max_tokens=20)) for name in names)
            assert base != one
            lines = self.run("generate", "--model", self.model, "--adapter", self.adapter, "--quantize", "none", "--temperature", "0",
                             "--max-tokens", "20", text=json.dumps({"messages": QUESTION}) + "\n")
            assert json.loads(lines)["completions"][0]["text"] == one
            # Both in one batch, while a third comes and goes.
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                asked = [pool.submit(server.chat, model=names[i % 2], temperature=0, max_tokens=20) for i in range(40)]
                load = {"lora_name": "two", "lora_path": self.adapter}
                for _ in range(5):
                    assert "added" in server.get("/v1/load_lora_adapter", load)
                    server.refused("/v1/load_lora_adapter", load, 400, "lora_name", "two")
                    assert text_of(server.chat(model="two", temperature=0, max_tokens=20)) == one
                    assert "removed" in server.get("/v1/unload_lora_adapter", {"lora_name": "two"})
                    server.refused("/v1/chat/completions", {"model": "two", "messages": QUESTION}, 404, "model", "two")
                for i, future in enumerate(asked):
                    assert text_of(future.result()) == (base, one)[i % 2]
            server.refused("/v1/unload_lora_adapter", {"lora_name": "two"}, 404, "two")
            server.refused("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "/nowhere"}, 404, "/nowhere")
            server.refused("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": self.model}, 400, "lora_path")
            server.refused("/v1/load_lora_adapter", {"lora_name": "demo", "lora_path": self.adapter}, 400, "lora_name")
            server.refused("/v1/load_lora_adapter", {"lora_path": self.adapter}, 400, "lora_name")
        # --adapter: the model itself.
        with self.serve("--adapter", self.adapter) as server:
            assert text_of(server.chat(temperature=0, max_tokens=20)) == one

    def test_tools(self):
        """A model that has learned one call, and answers it: whole and streamed."""
        template = os.path.join(self.folder, "tools.jinja")
        with open(template, "w", encoding="utf-8") as file:
            file.write("{%- if tools %}{% for tool in tools %}{{ tool.function.name + ' ' }}{% endfor %}{{ '<tool_call>\\n' }}{% endif %}"
                       "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
                       "{% for call in message.tool_calls or [] %}{{ call.function.arguments.x }}{% endfor %}"
                       "{{ message.content + '<|im_end|>\\n' }}{% endfor %}"
                       "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
        tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
        question = [{"role": "user", "content": "6 and 6"}]
        answer = 'I see.\n<tool_call>\n{"name": "add", "arguments": {"x": 6}}\n</tool_call>'
        data = os.path.join(self.folder, "tools.jsonl")
        with open(data, "w", encoding="utf-8") as file:
            file.write((json.dumps({"messages": question + [{"role": "assistant", "content": answer}], "tools": tools}) + "\n") * 4)
        run = os.path.join(self.folder, "tools")
        self.run("sft", "--full", "true", "--model", self.model, "--chat-template", template, "--quantize", "none", "--dataset", data,
                 "--max-steps", "80", "--learning-rate", "0.003", "--output-dir", run, "--threads", "2")
        with Server(self.program, "--model", os.path.join(run, "checkpoint-80"), "--quantize", "none", "--chat-template", template) as server:
            fields = {"messages": question, "tools": tools, "temperature": 0, "max_tokens": 100}
            choice = server.get("/v1/chat/completions", fields)["choices"][0]
            calls = choice["message"]["tool_calls"]
            assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] == "I see.", choice
            assert len(calls) == 1 and calls[0]["type"] == "function" and calls[0]["id"], calls
            assert calls[0]["function"]["name"] == "add" and json.loads(calls[0]["function"]["arguments"]) == {"x": 6}
            choices = [e["choices"][0] for e in server.stream("/v1/chat/completions", fields)]
            assert "".join(c["delta"].get("content") or "" for c in choices) == "I see." and choices[-1]["finish_reason"] == "tool_calls"
            streamed = [call for c in choices for call in c["delta"].get("tool_calls", [])]
            assert [(c["index"], c["function"]) for c in streamed] == [(0, calls[0]["function"])]
            # Without being parsed, and the call handed back.
            plain = server.get("/v1/chat/completions", {**fields, "tool_choice": "none"})["choices"][0]
            assert plain["message"]["content"] == answer and plain["finish_reason"] == "stop" and "tool_calls" not in plain["message"]
            history = question + [choice["message"], {"role": "tool", "tool_call_id": calls[0]["id"], "content": "12"}]
            found = server.get("/tokenize", {"messages": history, "tools": tools})["tokens"]
            text = server.get("/detokenize", {"tokens": found})["prompt"]
            assert "assistant\n6I see.<|im_end|>\n<|im_start|>tool\n12<|im_end|>" in text, text

    def test_tokens(self):
        with self.serve() as server:
            for text in ("6 and 6", "ä€😀\n", ""):
                ids = server.get("/tokenize", {"prompt": text})
                assert ids["count"] == len(ids["tokens"]) and ids["max_model_len"] == 512
                assert server.get("/detokenize", {"tokens": ids["tokens"]}) == {"prompt": text}
            assert len(server.get("/tokenize", {"prompt": "6 and", "return_token_strs": True})["token_strs"]) > 1
            assert server.get("/tokenizer_info")["eos_token"]
            assert server.get("/health") == "" and server.get("/version")["version"]
            server.refused("/detokenize", {"tokens": [10**6]}, 400, "tokens")
            server.refused("/detokenize", {}, 400, "tokens")
            server.refused("/tokenize", {"prompt": 3}, 400, "prompt")
            server.refused("/tokenize", {"prompt": "x", "model": "y"}, 404, "model")

    # ---------------------------------------------------------------- refusals

    def test_errors(self):
        with self.serve() as server:
            wrong = {"temperature": [-1, "a", 1e999], "top_p": [0, 1.5, -1], "top_k": [-2, 1.5], "min_p": [-0.1, 2], "n": [0, -1, 65, 1000],
                     "repetition_penalty": [0, -1, 1e-30, 1e30], "max_tokens": [0, -1, 10**6, "a", 1.5], "max_completion_tokens": [-1], "stop": ["", [""], [3], 3],
                     "seed": ["a", 1.5], "top_logprobs": [3], "stream": [1, "yes"], "stream_options": [{}, 3], "logit_bias": [{"5": 1}],
                     "response_format": [{"type": "json_object"}], "presence_penalty": [0.5], "frequency_penalty": [-1], "best_of": [3],
                     "tool_choice": ["required", {"type": "function", "function": {"name": "f"}}], "min_tokens": [2], "echo": [True],
                     "stop_token_ids": [[-1], "x"], "prompt_logprobs": [1], "guided_json": [{"type": "object"}], "chat_template": ["x"],
                     "tools": [3, "x"], "chat_template_kwargs": [3], "model": [3], "logprobs": [3],
                     "messages": [[], None, "x", [3], [{"role": "user"}], [{"content": "x"}], [{"role": "user", "content": 3}],
                                  [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
                                  [{"role": "user", "content": "x" * 5000}]]}
            for field, values in wrong.items():
                for value in values:
                    body = json.dumps({"messages": QUESTION, **({} if value is None else {field: value})})
                    body = body.replace("Infinity", "1e999") if value is not None else '{"max_tokens": 1}'
                    server.refused("/v1/chat/completions", body.encode(), 400, field)
            for body in ({}, {"prompt": ""}, {"prompt": []}, {"prompt": [[]]}, {"prompt": [10**6]}, {"prompt": [-1]}, {"prompt": {"a": 1}},
                         {"prompt": ["x", 3]}, {"prompt": "x" * 3000}, {"prompt": "x", "suffix": "y"}):
                server.refused("/v1/completions", body, 400, "suffix" if "suffix" in body else "prompt")
            server.refused("/v1/completions", {"prompt": "x", "max_tokens": 0}, 400, "max_tokens")
            server.refused("/v1/completions", {"prompt": "x", "logprobs": 100}, 400, "logprobs")
            for body in (b"", b"{", b"nonsense", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100000, b'{"a":' * 2000 + b"1" + b"}" * 2000):
                server.refused("/v1/chat/completions", body, 400)
            deep = "[" * 900 + "]" * 900
            for field in ("tools", "chat_template_kwargs", "unknown"):
                status, _ = server.ask("/v1/chat/completions", f'{{"messages": [{{"role": "user", "content": "x", "more": {deep}}}], "{field}": {deep}, '
                                       f'"max_tokens": 1}}'.encode())
                assert status in (200, 400), status
            server.refused("/v1/chat/completions", {"model": "other", "messages": QUESTION}, 404, "model", "other")
            server.refused("/nothing", None, 404, "/nothing")
            server.refused("/v1/chat/completions", None, 405, "POST")
            assert server.chat(max_tokens=1)

    def test_large_and_slow(self):
        with self.serve() as server:
            large = json.dumps({"messages": [{"role": "user", "content": "x" * (33 << 20)}]}).encode()
            server.refused("/v1/chat/completions", large, 413)
            # A whole prompt of the size that is read, but of no use.
            server.refused("/v1/chat/completions", large[:100] + large[-(1 << 20):], 400)
            slow = [server.raw("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{") for _ in range(40)]
            slow += [server.raw("GET /v1/mo") for _ in range(40)]
            begin = time.monotonic()
            assert server.chat(max_tokens=1)
            assert time.monotonic() - begin < 5
            for connection in slow:
                connection.close()

    def test_keys(self):
        with self.serve("--api-key", "secret") as server:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
                for path in ("/v1/models", "/health", "/metrics", "/nothing"):
                    status, answer = server.ask(path, headers=headers)
                    assert status == 401 and answer["error"]["code"] == 401, (status, answer)
            assert server.get("/v1/models", headers={"Authorization": "Bearer secret"})
        with self.serve(environment={"QGRPO_API_KEY": "other"}) as server:
            assert server.ask("/health")[0] == 401
            assert server.get("/health", headers={"Authorization": "Bearer other"}) == ""
        for arguments in (["--host", "0.0.0.0"], ["--host", "::"]):
            done = subprocess.run([self.program, "serve", "--model", self.model, "--port", "0", *arguments], capture_output=True, text=True, check=False)
            assert done.returncode == 2 and "--api-key" in done.stderr, done.stderr

    # ---------------------------------------------------------------- clients that go, ends

    def test_hang_up(self):
        with self.serve() as server:
            total = 0
            for stream in (True, False):
                body = json.dumps({"messages": QUESTION, "ignore_eos": True, "stream": stream, "n": 8})
                connections = [server.raw(f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}") for _ in range(4)]
                while server.metric("vllm:num_requests_running") == 0:
                    time.sleep(0.002)
                for connection in connections:
                    connection.close()
                server.wait_idle()
                aborted = server.metric("vllm:request_success_total", finished_reason="abort")
                assert aborted > total, aborted
                total = aborted

    def test_full(self):
        """What does not fit waits; what waits too long a line is refused."""
        with self.serve("--max-num-seqs", "2", "--max-waiting", "3") as server:
            def ask(_):
                return server.ask("/v1/chat/completions", {"messages": QUESTION, "ignore_eos": True, "max_tokens": 300})
            with concurrent.futures.ThreadPoolExecutor(24) as pool:
                answers = list(pool.map(ask, range(24)))
            statuses = [status for status, _ in answers]
            assert set(statuses) == {200, 429}, statuses
            assert statuses.count(200) >= 3
            for status, answer in answers:
                assert status == 200 or "later" in answer["error"]["message"]
            server.wait_idle()

    def test_ends(self):
        for sign, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            server = self.serve()
            body = json.dumps({"messages": QUESTION, "ignore_eos": True, "max_tokens": 400})
            connection = server.raw(f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}")
            while server.metric("vllm:num_requests_running") == 0:
                time.sleep(0.002)
            server.process.send_signal(sign)
            text = b"".join(iter(lambda: connection.recv(65536), b""))  # answered all the same
            connection.close()
            assert text.startswith(b"HTTP/1.1 200 ") and b'"completion_tokens": 400' in text, text[:300]
            assert server.process.wait(timeout=60) == code and server.stop() == code
        # What takes too long is cut off.
        server = self.serve("--shutdown-timeout", "0")
        body = json.dumps({"messages": QUESTION, "ignore_eos": True, "stream": True, "n": 32})
        with server.raw(f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}") as connection:
            connection.recv(1000)
            assert server.stop() == 143
        # An address in use, models and flags that are wrong: one line.
        with self.serve() as server:
            for arguments, code, word in ((["--port", str(server.port)], 1, "in use"), (["--port", "99999"], 2, "--port"),
                                          (["--max-model-len", "100000"], 2, "--max-model-len"), (["--lora-modules", "x"], 2, "--lora-modules"),
                                          (["--lora-modules", "x=/nowhere"], 1, "/nowhere"), (["--host", "no.such.host.invalid"], 2, "--host"),
                                          (["--kv-cache-memory-bytes", "0.000001"], 1, "--kv-cache-memory-bytes"),
                                          (["--max-num-seqs", "0"], 2, "--max-num-seqs")):
                done = subprocess.run([self.program, "serve", "--model", self.model, "--quantize", "none", *arguments], capture_output=True,
                                      text=True, check=False)
                assert done.returncode == code and word in done.stderr and done.stderr.count("\n") == 1, (arguments, done)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qgrpo-serve-") as folder:
        tests = Tests(os.path.abspath(options.program), folder)
        names = [name for name in dir(tests) if name.startswith("test_") and options.only in name]
        for name in names:
            begin = time.monotonic()
            getattr(tests, name)()
            print(f"{name}: {time.monotonic() - begin:.1f} s", flush=True)
        print(f"{len(names)} passed, 0 failed")


if __name__ == "__main__":
    main()
