#!/usr/bin/env python3
"""qgrpo serve against its clients: the openai package (sync, async, streams, tools, errors), prometheus_client, and lm-eval's local-completions.

Usage: serve.py QGRPO. Needs: openai prometheus_client lm_eval[api] (lm-eval without torch).
"""
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

QUESTION = [{"role": "user", "content": "Ben has 6 cards and buys 6 more. How many cards does Ben have now?"}]
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}}]
TEMPLATE = """{%- if tools %}{{ '<tool_call> ' }}{% endif %}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


class Server:
    def __init__(self, qgrpo, *arguments):
        self.process = subprocess.Popen([qgrpo, "serve", "--port", "0", "--quantize", "none", *arguments], stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        assert " at http" in line, line
        self.url = re.search(r" at (http://\S+) ", line)[1]

    def __enter__(self):
        return self.url

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stderr.close()


def refused(kind, call, status, param=None):
    try:
        call()
    except kind as error:
        assert error.status_code == status, error
        assert param is None or error.param == param, (param, error.body)
        return
    raise AssertionError(f"{kind.__name__} was expected")


def check_sync(url):
    import openai
    client = openai.OpenAI(base_url=url + "/v1", api_key="secret", max_retries=0)
    assert [m.id for m in client.models.list()] == ["demo"] and client.models.retrieve("demo").id == "demo"
    ask = {"model": "demo", "messages": QUESTION, "max_tokens": 32, "seed": 3}
    whole = client.chat.completions.create(**ask, n=2, logprobs=True, top_logprobs=2)
    assert len(whole.choices) == 2 and whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.completion_tokens == sum(len(c.logprobs.content) for c in whole.choices)
    texts = {0: "", 1: ""}
    usage = None
    for chunk in client.chat.completions.create(**ask, n=2, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert [texts[0], texts[1]] == [c.message.content for c in whole.choices] and usage == whole.usage
    with client.chat.completions.stream(**ask) as stream:  # the package's own reader of events
        assert stream.get_final_completion().choices[0].message.content == texts[0]
    plain = client.completions.create(model="demo", prompt=["6 and 6", "x"], max_tokens=5, temperature=0, logprobs=2, echo=True)
    assert [c.index for c in plain.choices] == [0, 1] and plain.choices[0].text.startswith("6 and 6")
    assert plain.choices[0].logprobs.token_logprobs[0] is None
    stopped = client.chat.completions.create(**ask, stop=texts[0][4:8]).choices[0]
    assert stopped.finish_reason == "stop" and stopped.message.content == texts[0][:texts[0].index(texts[0][4:8])]
    extra = client.chat.completions.create(**ask, extra_body={"top_k": 1, "return_token_ids": True, "chat_template_kwargs": {"a": 1}})
    assert extra.choices[0].token_ids
    refused(openai.BadRequestError, lambda: client.chat.completions.create(**{**ask, "temperature": -1}), 400, "temperature")
    refused(openai.BadRequestError, lambda: client.chat.completions.create(**{**ask, "max_tokens": 10**6}), 400, "max_tokens")
    refused(openai.BadRequestError, lambda: client.chat.completions.create(**ask, response_format={"type": "json_object"}), 400, "response_format")
    refused(openai.NotFoundError, lambda: client.chat.completions.create(**{**ask, "model": "other"}), 404, "model")
    refused(openai.AuthenticationError, lambda: openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0).models.list(), 401)
    refused(openai.NotFoundError, lambda: client.embeddings.create(model="demo", input="x"), 404)
    print("  openai, sync: models, chat, completions, log-probs, streams, stops, errors")


async def check_async(url):
    import openai
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="secret", max_retries=0) as client:
        async def one(seed):
            answer = await client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=24, seed=seed)
            return answer.choices[0].message.content

        async def left():
            stream = await client.chat.completions.create(model="demo", messages=QUESTION, stream=True, extra_body={"ignore_eos": True})
            async for _ in stream:
                break
            await stream.close()

        together = await asyncio.gather(*(one(seed) for seed in range(16)), *(left() for _ in range(8)), *(one(seed) for seed in range(16)))
        assert together[:16] == together[-16:] == [await one(seed) for seed in range(16)]
    print("  openai, async: 40 at once, 8 of them left in the middle; the same answers as alone")


def check_tools(url):
    import openai
    client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
    ask = {"model": "demo", "messages": [{"role": "user", "content": "6 and 6"}], "tools": TOOLS, "temperature": 0, "max_tokens": 100}
    choice = client.chat.completions.create(**ask).choices[0]
    call = choice.message.tool_calls[0]
    assert choice.finish_reason == "tool_calls" and call.function.name == "add" and json.loads(call.function.arguments) == {"x": 6}
    with client.chat.completions.stream(**ask) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls" and final.message.tool_calls[0].function.arguments == call.function.arguments
    back = [*ask["messages"], choice.message, {"role": "tool", "tool_call_id": call.id, "content": "12"}]
    client.chat.completions.create(**{**ask, "messages": back, "max_tokens": 3})
    print("  openai: tool calls, whole and streamed, and handed back")


def check_metrics(url):
    from prometheus_client.parser import text_string_to_metric_families
    request = urllib.request.Request(url + "/metrics", headers={"Authorization": "Bearer secret"})
    families = {f.name: f for f in text_string_to_metric_families(urllib.request.urlopen(request).read().decode())}
    for name, kind in (("vllm:num_requests_running", "gauge"), ("vllm:generation_tokens", "counter"), ("vllm:request_success", "counter"),
                       ("vllm:time_to_first_token_seconds", "histogram"), ("vllm:e2e_request_latency_seconds", "histogram")):
        assert families[name].type == kind, (name, families.get(name))
    assert families["vllm:num_requests_running"].samples[0].value == 0
    assert any(s.labels["finished_reason"] == "abort" and s.value >= 8 for s in families["vllm:request_success"].samples)
    print(f"  prometheus_client: {len(families)} families")


def check_lm_eval(qgrpo, model, url):
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    pairs = [("6 and 6", " are 12"), ("Ben has 6", " cards"), ("How many", " cards does Ben have now?")]
    client = LocalCompletionsAPI(base_url=url + "/v1/completions", model="demo", tokenizer_backend="remote", batch_size=2, max_length=500)
    requests = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs)]
    found = client.loglikelihood(requests)
    lines = subprocess.run([qgrpo, "score", "--model", model, "--quantize", "none"], capture_output=True, text=True, check=True,
                           input="".join(json.dumps({"text": a + b}) + "\n" for a, b in pairs)).stdout.splitlines()
    for (context, _), (value, greedy), line in zip(pairs, found, lines):
        context = client.tok_encode(context)
        context = context[0] if isinstance(context[0], list) else context
        wanted = json.loads(line)
        assert wanted["ids"][:len(context)] == list(context)
        assert abs(value - sum(wanted["logprobs"][len(context):])) < 1e-4, (value, wanted)
        assert greedy in (True, False)
    asked = [Instance(request_type="generate_until", doc={}, arguments=("6 and 6", {"until": ["\n"], "max_gen_toks": 8}), idx=0)]
    assert isinstance(client.generate_until(asked)[0], str)
    print("  lm-eval, local-completions: log-likelihoods as score's, generation")


def main(qgrpo):
    work = Path(tempfile.mkdtemp(prefix="qgrpo-peer-serve-"))

    def run(*arguments):
        done = subprocess.run([qgrpo, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    try:
        run("sft", "--make-demo-model", work / "demo", "--max-steps", "60", "--seed", "1")
        (work / "template.jinja").write_text(TEMPLATE)
        answer = '<tool_call>\n{"name": "add", "arguments": {"x": 6}}\n</tool_call>'
        lesson = {"messages": [{"role": "user", "content": "6 and 6"}, {"role": "assistant", "content": answer}], "tools": TOOLS}
        (work / "lesson.jsonl").write_text((json.dumps(lesson) + "\n") * 4)
        run("sft", "--full", "true", "--model", work / "demo", "--chat-template", work / "template.jinja", "--quantize", "none", "--dataset",
            work / "lesson.jsonl", "--max-steps", "80", "--learning-rate", "0.003", "--output-dir", work / "caller")
        with Server(qgrpo, "--model", work / "demo", "--served-model-name", "demo", "--api-key", "secret") as url:
            check_sync(url)
            asyncio.run(check_async(url))
            check_metrics(url)
        with Server(qgrpo, "--model", work / "caller/checkpoint-80", "--chat-template", work / "template.jinja", "--served-model-name", "demo") as url:
            check_tools(url)
        os.environ.setdefault("OPENAI_API_KEY", "none")
        with Server(qgrpo, "--model", work / "demo", "--served-model-name", "demo") as url:
            check_lm_eval(qgrpo, work / "demo", url)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
