"""Chat templates against transformers.

    chat_templates.py --write tests/vectors/tokenizer
        renders the templates of .../chat and the snippets below with transformers, as test vectors
        (.../chat_rendered.json, .../jinja_snippets.json)
    chat_templates.py PROGRAM [FOLDER or FILE ...]
        compares `PROGRAM tokenize --render` with transformers on the templates of the folders and
        files given (model folders, .jinja files) and on those that the installed TRL has

Needs: transformers jinja2 trl
"""
import argparse
import glob
import importlib.util
import json
import os
import subprocess
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a \"city\" <b>&</b> 'more' \u00e9",
        "parameters": {"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "The city", "enum": ["Paris", "Oslo"]},
            "days": {"type": "integer", "default": 3.0, "nullable": True},
            "tags": {"type": "array", "items": {"type": ["string", "null"]}},
            "opts": {"type": "object", "required": ["unit"], "properties": {
                "unit": {"type": "string"}, "deep": {"type": "array", "items": {"type": "string"}}}}}},
        "return": {"type": "string", "description": "what"}}},
    {"type": "function", "function": {
        "name": "now", "description": "Time", "parameters": {"type": "object", "properties": {}}}},
]


def call(name, arguments, call_id="abc123xyz"):
    return {"type": "function", "id": call_id, "function": {"name": name, "arguments": arguments}}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


SYSTEM = {"role": "system", "content": "  You are \n terse. "}
CONVERSATIONS = {
    "one": [user("Hello")],
    "system": [SYSTEM, user(" Hi there \n")],
    "several": [SYSTEM, user("a"), assistant("b\n"), user("c \u00e9 \u6f22\u5b57 \U0001f600"), assistant(" d ")],
    "thoughts": [user("q"), assistant("<think>\nlet me\n</think>\n\nanswer"), user("again"),
                 assistant("<think>\nmore\n</think>\n\nfinal")],
    "reasoning": [user("q"), assistant("a", reasoning_content="why\n"), user("r"),
                  assistant("b", reasoning_content="because")],
    "call": [SYSTEM, user("Weather?"),
             assistant("", tool_calls=[call("get_weather", {"city": "Paris", "days": 2, "x": None, "y": 1.5,
                                                            "l": [1, "a", True]})]),
             {"role": "tool", "name": "get_weather", "tool_call_id": "abc123xyz", "content": "{\"t\": 20}"},
             assistant("20 degrees"), user("thanks")],
    "calls": [user("Weather?"),
              assistant("Let me see", tool_calls=[call("get_weather", {"city": "Paris"}), call("now", {}, "def456uvw")]),
              {"role": "tool", "name": "get_weather", "tool_call_id": "abc123xyz", "content": "20"},
              {"role": "tool", "name": "now", "tool_call_id": "def456uvw", "content": "noon"}],
    "null content": [user("W"), assistant(None, tool_calls=[call("now", {})]),
                     {"role": "tool", "name": "now", "tool_call_id": "abc123xyz", "content": "noon"}],
    "text arguments": [user("W"), assistant("", tool_calls=[call("now", '{"a": 1}')]),
                       {"role": "tool", "content": "x"}],
    "parts": [user([{"type": "text", "text": " look "}, {"type": "image"}, {"type": "text", "text": "more"}]),
              assistant("ok")],
    "not alternating": [user("a"), user("b")],
}
VARIABLES = [
    {"date_string": "26 Jul 2024"},
    {"date_string": "x", "enable_thinking": False, "tools_first": False, "tools_in_user_message": False},
]

# Templates that show one construct each; their variables are VALUES.
VALUES = {
    "n": 7, "x": 2.5, "big": 1e22, "small": 0.00001, "neg": -7, "t": True, "f": False, "nil": None, "e": "",
    "s": "  Hello W\u00f6rld \n", "w": "one two  three", "l": [3, 1, 2], "ll": [[1, 2], [3, 4]], "empty": [],
    "d": {"b": 1, "a": [1, {"c": None}], "items": "own", "\u00e9": "\u4e2d \"q\" \\ \n \u0007 \u007f </x> & '"},
    "m": [{"role": "user", "n": 2, "tags": ["x"]}, {"role": "bot", "n": 1}, {"role": "User", "n": 3}],
}
SNIPPETS = r"""
{{ n }} {{ x }} {{ big }} {{ small }} {{ t }} {{ nil }} {{ l }} {{ d }} {{ e }}|{{ missing }}|
{{ 1.0 }} {{ 1e5 }} {{ 1e16 }} {{ 123456789.123 }} {{ 1_000 }} {{ 0.1 + 0.2 }} {{ -x }} {{ +n }} {{ 5e-324 }}
{{ n + 1 }} {{ n - 9 }} {{ n * 2 }} {{ n / 2 }} {{ n // 2 }} {{ neg // 2 }} {{ neg % 3 }} {{ n % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ t + t }}
{{ 1 / 0 }}
{{ "a" + 1 }}
{{ "a" ~ 1 ~ nil ~ l ~ missing ~ x }}
{{ "a" * 3 }} {{ [1] * 2 }} {{ l + [4] }} {{ (1, 2) + (3,) }} {{ "-" * 0 }}|
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ t == 1 }} {{ "a" < "b" }} {{ [1, 2] < [1, 3] }} {{ nil == nil }} {{ missing == missing2 }} {{ "1" == 1 }}
{{ 1 < "a" }}
{{ nil < 1 }}
{{ 1 in l }} {{ 9 not in l }} {{ "ell" in s }} {{ "a" in d }} {{ 1 in d }} {{ "x" in missing }} {{ [1,2] in ll }}
{{ 1 in s }}
{{ 1 in n }}
{{ t and n or e }} {{ e or "z" }} {{ e and 1 }}| {{ not e }} {{ not t == f }} {{ nil or missing or 0 }}
{{ "a" if t }}{{ "b" if f }}{{ "c" if f else "d" if f else "e" }}
{{ s|trim }}|{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ "xxaxx".strip("x") }}|{{ "xyaz".lstrip("yx") }}|{{ "abc\n\n".rstrip("\n") }}|{{ "..a.."|trim(".") }}
{{ s|upper }}{{ s.lower() }}{{ "stra\u00dfe"|upper }}{{ "hello wORLD-foo (bar)"|title }}{{ "hELLO"|capitalize }}{{ "it's ok".title() }}{{ "aB".swapcase() }}
{{ w.split() }} {{ w.split(" ") }} {{ w.split(" ", 1) }} {{ w.split(maxsplit=1) }} {{ w.rsplit(" ", 1) }} {{ "  a b ".split(none, 1) }} {{ " a b  c ".rsplit(none, 1) }} {{ "a,b,,c".split(",") }} {{ "".split() }} {{ "".split(",") }}
{{ "a</think>b</think>c".split("</think>")[-1] }} {{ "a=b=c".partition("=") }} {{ "a=b=c".rpartition("=") }} {{ "abc".partition("x") }}
{{ "abc".split("") }}
{{ w.startswith("one") }} {{ w.startswith(("x", "o")) }} {{ w.endswith("ee") }} {{ w.startswith("two", 4) }} {{ w.find("t") }} {{ w.rfind("t") }} {{ w.find("zz") }} {{ w.count("o") }} {{ "\u00e9\u00e9x".find("x") }} {{ w.index("two") }}
{{ w.index("zz") }}
{{ w.replace("o", "0") }} {{ w.replace("o", "0", 1) }} {{ w|replace("t", "T", 1) }} {{ "abc".replace("", "-") }} {{ 121|replace(1, 3) }}
{{ ", ".join(["a", "b"]) }} {{ l|join("-") }} {{ m|join("/", attribute="role") }} {{ "abc"|join(".") }} {{ missing|join }}|
{{ ",".join([1]) }}
{{ "{} {1}" }}{{ "{} and {}".format(1, "x") }} {{ "{0}{0}{a}".format("z", a=3) }} {{ "{:>5}|{:<4}|{:^5}|{:05d}|{:.2f}|{:,}|{:x}|{!r}".format("a", "b", "c", 42, 3.14159, 1234567, 255, "q") }} {{ "{{}}".format() }}
{{ "{}".format() }}
{{ "%s %d %5.2f|%-4s|%04d %% %r" % ("a", 3.9, 2.345, "b", 7, "q") }} {{ "%s" % 5 }} {{ "%(k)s" % {"k": 1} }} {{ "%s-%s"|format(1, 2) }}
{{ "%s %s" % 1 }}
{{ "abc".isdigit() }} {{ "12".isdigit() }} {{ "ab".isalpha() }} {{ "a1".isalnum() }} {{ " ".isspace() }} {{ "AB".isupper() }} {{ "ab".islower() }} {{ "".isalpha() }}
{{ "a".center(4, "*") }} {{ "a".ljust(3) }}| {{ "a".rjust(3) }} {{ "-5".zfill(4) }} {{ "ab"|center(5) }}| {{ "pre-x".removeprefix("pre-") }} {{ "x.py".removesuffix(".py") }} {{ "a\nb\r\nc".splitlines() }} {{ "a\nb".splitlines(true) }}
{{ s|length }} {{ l|count }} {{ d|length }} {{ missing|length }} {{ "\U0001f600\u00e9"|length }}
{{ n|length }}
{{ l|map("string")|length }}
{{ l[0] }} {{ l[-1] }} {{ l[9] }}| {{ l.0 }} {{ d["a"][1]["c"] }} {{ d.a[1].c }} {{ d.nope }}| {{ d["items"] }} {{ "abc"[1] }} {{ "\u00e9\u00e8"[-1] }} {{ (1,2,3)[1] }}
{{ d.nope.deeper }}
{{ missing.x }}
{{ nil.x }}|{{ nil["x"] }}|{{ n.x }}|{{ l.x }}|{{ l["x"] }}
{{ l[1:] }} {{ l[:-1] }} {{ l[::-1] }} {{ l[::2] }} {{ "abcdef"[1:4] }} {{ "abcdef"[::-1] }} {{ "abcdef"[4:1:-1] }} {{ "abc"[-100:100] }} {{ (1,2,3)[1:] }} {{ l[5:] }} {{ "\u00e9\u00e8\u00ea"[1:] }}
{{ l[::0] }}
{{ missing[1:] }}
{% for k in d %}{{ k }};{% endfor %}{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in d|items %}{{ loop.index }}{{ k }}{% endfor %}{{ d.keys() }}{{ d.values()|list }}{{ d.get("b") }}{{ d.get("z") }}{{ d.get("z", 4) }}{{ {"x": 1}.items() }}
{% for k, v in d|dictsort %}{{ k }},{% endfor %} {{ {"b": 1, "A": 2}|dictsort }} {{ {"b": 1, "A": 2}|dictsort(true) }} {{ {"b": 1, "A": 2}|dictsort(by="value", reverse=true) }}
{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}{{ loop.cycle("a", "b") }} {% endfor %}
{% for i in empty %}x{% else %}none{% endfor %}{% for i in l if i > 1 %}{{ i }}{{ loop.last }}{% else %}no{% endfor %}{% for i in l if i > 9 %}x{% else %}no{% endfor %}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %} {{ range(3) }} {{ range(1, 7, 2)|list }} {{ range(3, 0, -1)|list }} {{ range(0)|list }} {{ range(5)[2] }}
{{ range(1000000) }}
{% for a, b in ll %}{{ a }}-{{ b }} {% endfor %}{% for c in "a\u00e9" %}[{{ c }}]{% endfor %}{% for i in missing %}x{% endfor %}{% for (a, b) in ll %}{{ b }}{% endfor %}
{% for a, b in l %}{% endfor %}
{% for i in n %}{% endfor %}
{% for item in [1, [2, [3]]] recursive %}{% if item is iterable %}({{ loop(item) }}){% else %}{{ item }}{{ loop.depth }}{% endif %}{% endfor %}
{% set a = 1 %}{% for i in l %}{% set a = a + i %}{{ a }},{% endfor %}{{ a }}
{% set ns = namespace(a=1, b=[]) %}{% for i in l %}{% set ns.a = ns.a + i %}{% set ns.b = ns.b + [i] %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.zzz is defined }}{{ ns["a"] }}
{% set q = {} %}{% set q.a = 1 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set p = (1, 2) %}{{ p }}{% set z %}in {{ a }}{% endset %}{{ z|upper }}{% set y | upper | trim %} abc {% endset %}{{ y }}|
{% if f %}{% set v = 1 %}{% endif %}{{ v is defined }}{% if t %}{% set v = 2 %}{% endif %}{{ v }}
{% macro f1(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f1(1) }} {{ f1(1, c=5) }} {{ f1(1, 2, 3, 4, k=5) }} {{ f1.name }}
{% macro g(a, b) %}{{ a }}{{ b }}{{ b is defined }}{% endmacro %}{{ g(1) }}{{ g(b=1, a=2) }}{{ g(*[1, 2]) }}{{ g(**{"a": 1, "b": 2}) }}
{% macro g(a) %}{{ a }}{% endmacro %}{{ g(1, 2) }}
{% macro g(a) %}{{ a }}{% endmacro %}{{ g(z=2) }}
{% macro wrap(t) %}<{{ t }}>{{ caller(1) }}</{{ t }}>{% endmacro %}{% call(x) wrap("b") %}in {{ x }}{% endcall %}
{% macro rec(k) %}{{ k }}{% if k > 0 %}{{ rec(k - 1) }}{% endif %}{% endmacro %}{{ rec(5) }}
{% macro late() %}{{ later }}{% endmacro %}{% set later = 3 %}{{ late() }}
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}{% filter upper %}abc {{ w }}{% endfilter %}{% filter replace("a", "b") | upper %}aac{% endfilter %}
{% raw %}{{ not }} {% this %}{% endraw %} {%- raw -%}  {{ x }}  {%- endraw -%}  .
a {# comment {{ x }} #} b {#- c -#} d
{{ x -}}    after    {{- x }}
{% if f %}1{% elif n == 7 %}2{% else %}3{% endif %}{% if missing %}4{% endif %}{% if not l %}5{% endif %}
{{ missing|default("dd") }} {{ nil|default("dd") }} {{ nil|default("dd", true) }} {{ e|default("dd", boolean=true) }} {{ d.zz|d }}| {{ missing.x|default("dd") }}
{{ d.zz|default("ok") }} {{ (d.zz|default({})).yy|default("ok2") }}
{{ d|tojson }} {{ l|tojson }} {{ "<&'>\u00e9\u4e2d"|tojson }} {{ nil|tojson }} {{ t|tojson }} {{ x|tojson }} {{ big|tojson }} {{ (1, 2)|tojson }} {{ {1: 2, nil: 3, t: 4}|tojson }}
{{ d|tojson(indent=2) }} {{ []|tojson(indent=2) }} {{ {}|tojson(indent=4) }} {{ d|tojson(ensure_ascii=true) }} {{ d|tojson(sort_keys=true) }} {{ l|tojson(separators=(",", ":")) }} {{ l|tojson(indent="\t") }} {{ l|tojson(indent=0) }}
{{ missing|tojson }}
{{ l|map("string")|tojson }}
{{ "a\nb\n\nc"|indent }} {{ "a\nb"|indent(2, true) }} {{ "a\n\nb"|indent(2, blank=true) }} {{ "a\nb"|indent("> ") }} {{ "a\n"|indent }}|
{{ l|first }} {{ l|last }} {{ empty|first }}| {{ "abc"|first }} {{ "abc"|last }} {{ d|first }} {{ l|min }} {{ l|max }} {{ l|sum }} {{ m|sum(attribute="n") }} {{ empty|max }}|
{{ l|sort }} {{ l|sort(reverse=true) }} {{ ["b", "A", "c"]|sort }} {{ ["b", "A"]|sort(case_sensitive=true) }} {{ m|sort(attribute="n")|map(attribute="n")|list }} {{ l|reverse|list }} {{ "abc"|reverse }} {{ [1, 1, 2, "a", "A"]|unique|list }} {{ l|batch(2)|list }} {{ l|batch(2, 0)|list }}
{{ m|map(attribute="role")|list }} {{ [m[0]]|map(attribute="tags.0")|list }} {{ m|map(attribute="zz", default="-")|list }} {{ ["a", "b"]|map("upper")|join }} {{ l|map("string")|list }} {{ ["a-b"]|map("replace", "-", "+")|first }}
{{ m|selectattr("role", "equalto", "user")|list|length }} {{ m|rejectattr("n", ">", 1)|map(attribute="role")|list }} {{ m|selectattr("tags")|list|length }}
{{ m|map(attribute="tags.0")|list }}
{{ m|selectattr("tags", "defined")|list|length }} {{ l|select("odd")|list }} {{ l|reject("divisibleby", 2)|list }} {{ [0, 1, ""]|select|list }} {{ m|selectattr("role", "in", ["user", "bot"])|list|length }}
{{ l|select("odd")|length }}
{% if empty|select %}yes{% endif %}{{ l|map("string")|list|list }}{% set g = l|map("string") %}{{ g|list }}{{ g|list }}
{{ "3"|int }} {{ "3.7"|int }} {{ "x"|int }} {{ "x"|int(5) }} {{ 3.9|int }} {{ "ff"|int(base=16) }} {{ "0x1f"|int(base=16) }} {{ nil|int }} {{ t|int }} {{ " 1_0 "|int }} {{ "2.5"|float }} {{ "z"|float }} {{ 3|float }} {{ -3|abs }} {{ 2.5|round }} {{ 3.14159|round(2) }} {{ 2.1|round(method="ceil") }} {{ 5|round }} {{ n|string + "x" }}
{{ "<a> & \"b\""|escape }} {{ "<a>"|safe }} {{ "<a>"|e|upper }} {{ ("<a>"|safe) + "<b>" }} {{ "<b>" + ("<a>"|safe) }} {{ "a b/c?"|urlencode }} {{ "foo bar baz"|truncate(9) }} {{ "foo bar baz"|truncate(6, true, "") }} {{ w|wordcount }}
{{ s is string }} {{ n is number }} {{ t is number }} {{ x is float }} {{ n is integer }} {{ t is integer }} {{ t is boolean }} {{ nil is none }} {{ missing is none }} {{ d is mapping }} {{ l is mapping }} {{ l is iterable }} {{ s is iterable }} {{ n is iterable }} {{ l is sequence }} {{ s is sequence }} {{ d is sequence }} {{ n is sequence }}
{{ d.items() is sequence }} {{ d.keys() is iterable }} {{ l|map("string") is iterable }} {{ missing is iterable }} {{ missing is sequence }} {{ d.get is callable }} {{ range is callable }} {{ n is callable }}
{{ t is true }} {{ f is false }} {{ 1 is true }} {{ missing is false }} {{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is eq 7 }} {{ n is equalto(7) }} {{ n is gt 3 }} {{ n is lt 3 }} {{ n is ne 3 }} {{ n is in [7] }} {{ n is not in [7] }} {{ "a" is in "abc" }} {{ nil is sameas nil }} {{ 1 is sameas true }} {{ "ab" is lower }} {{ "AB" is upper }} {{ "x" is filter }} {{ "trim" is filter }} {{ "odd" is test }}
{{ n is defined and missing is not defined }} {{ "a" if missing is undefined else "b" }} {{ missing is defined or t }} {{ not missing is defined }}
{{ [1, "a", nil, t, 1.5, [2], {"k": "v"}, (1,), ()] }} {{ ["it's", 'say "x"', 'both \' "', "tab\t nl\n bs\\ \u00e9 \u0001 \u200b"] }}
{{ "a" "b" }} {{ 'it\'s \x41 \u00e9 \n\t\\ \q' }} {{ {"a": {"b": 1}}.a.b }} {{ {} }} {{ [] }} {{ () }} {{ {"a": 1,} }} {{ [1,] }}
{{ [l, d.b][0][1] }} {{ (l)[0] }} {{ l|first + 1 }} {{ -3|abs }} {{ 2 + 3 * 4 ** 2 / 8 - 1 }} {{ "a" ~ 1 + 2 }} {{ 2 ** 3 ** 2 }} {{ 1 + 2 ~ 3 }}
{{ dict(a=1, b=2) }} {{ dict([["k", 1]]) }} {{ dict({"a": 1}, b=3) }} {{ namespace(a=1).a }} {% set j = joiner("; ") %}{{ j() }}a{{ j() }}b{{ j() }}
{{ raise_exception("no: " ~ n) }}
{% if f %}{{ raise_exception("never") }}{% endif %}fine
{{ l.append(4) }}
{{ d.update({}) }}
{{ d.pop("a") }}
{{ "a".__class__ }}|
{{ l|nofilter }}
{{ l is notest }}
{{ nofunction() }}
{{ n() }}
{{ "x".nomethod() }}
{% unknown %}
{% if t %}
{{ n
{{ n | }}
{{ (n }}
{{ n ) }}
{{ }}
{% endfor %}
{% for x %}{% endfor %}
{% set %}
{# open
{{ "open }}
{{ n n }}
{% break %}
{{ 'a' is string is string }}
{% generation %}x{{ n }}{% set inner = 1 %}{% endgeneration %}{{ inner is defined }}
{% print n, x %} {{ n, x }}
{{ strftime_now("%%") }} {{ strftime_now("%Y")|length }} {{ strftime_now is defined }}
""".strip("\n").split("\n")
# White space and line breaks matter in these.
SNIPPETS += [
    "  {% if t %}\n   x\n  {% endif %}\ny\n", "a\n  {%- if t -%}   z   {%- endif +%}\n b\n\n", "{% if t %}\r\nx\r{% endif %}\r\n",
    " {%+ if t %} keep{% endif %} tail", "x\n  {# c #}\n y", "x  {# c #}\n y", "{% for i in l %}\n  {{ i }}\n{% endfor %}\n",
    "{{ x -}} \n after \n {{- x }}", "{% set a = 1 %}\n\n{{ a }}\n", "{%- raw %}\n {{ a }}\n{% endraw %}\n b", "x{% raw -%}\n a {%- endraw %}",
    "{{ {'a': {'b': 1}} }}", "{{ '}}' ~ '%}' }}", "{{\n n\n}}\n", "line\n\t {% if t %}a\n\t {% endif %}\nend", "{{ 'a\nb' }}", "",
    "{% if t %}{% if f %}a{% else %}b{% endif %}\n\n{% endif %}\n\n\n",
]


def conversation_cases():
    for name, messages in CONVERSATIONS.items():
        for tools in (None, TOOLS):
            for prompt in (False, True):
                for variables in VARIABLES:
                    yield name, messages, tools, prompt, variables


def render(template, messages, tools, prompt, variables, mask=False):
    """The text, and the spans of {% generation %}; None where transformers refuses."""
    messages = [{k: v for k, v in m.items() if v is not None} for m in messages]
    try:
        texts, spans = render_jinja_template(
            [messages], tools=tools, chat_template=template, add_generation_prompt=prompt,
            return_assistant_tokens_mask=mask, **{**SPECIAL, **variables})
    except Exception:  # every kind of refusal is one
        return None, None
    return texts[0], spans[0] if mask else None


def write(folder):
    templates, cases, number = {}, [], 0
    for path in sorted(glob.glob(os.path.join(folder, "chat", "*.jinja"))):
        name = os.path.basename(path)
        text = templates[name] = open(path, encoding="utf-8", newline="").read()
        for conversation, messages, tools, prompt, variables in conversation_cases():
            number += 1
            if number % 3 and "qwen" in name:  # the large ones: a third of the cases
                continue
            marked = "endgeneration" in text
            rendered, spans = render(text, messages, tools, prompt, variables, marked)
            case = {"template": name, "conversation": conversation, "tools": tools is not None,
                    "add_generation_prompt": prompt, "variables": variables, "text": rendered}
            if spans is not None:
                case["generation"] = [rendered[b:e] for b, e in spans]
            cases.append(case)
    out = {"special_tokens": SPECIAL, "tools": TOOLS, "conversations": CONVERSATIONS, "cases": cases}
    with open(os.path.join(folder, "chat_rendered.json"), "w", encoding="utf-8") as file:
        head = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out.items() if k != "cases")
        file.write("{" + head + ',\n"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")
    snippets = []
    for source in SNIPPETS:
        try:
            text = _compile_jinja_template(source).render(**VALUES)
        except Exception:
            text = None
        snippets.append({"template": source, "text": text})
    with open(os.path.join(folder, "jinja_snippets.json"), "w", encoding="utf-8") as file:
        file.write('{"variables": ' + json.dumps(VALUES) + ',\n"snippets": [\n' +
                   ",\n".join(json.dumps(s) for s in snippets) + "\n]}\n")
    print(f"{len(cases)} renderings of {len(templates)} templates, {len(snippets)} snippets")


def template_files(paths):
    trl = importlib.util.find_spec("trl")
    if trl is not None:
        paths = paths + sorted(glob.glob(os.path.join(os.path.dirname(trl.origin), "chat_templates", "*.jinja")))
    for path in paths:
        if os.path.isdir(path):
            names = ["chat_template.jinja", "tokenizer_config.json", "chat_template.json"]
            path = next(p for p in (os.path.join(path, n) for n in names) if os.path.exists(p))
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        if path.endswith(".json"):
            text = json.loads(text)["chat_template"]
            if not isinstance(text, str):
                text = next(t["template"] for t in text if t["name"] == "default")
        yield path, text


def check(program, paths):
    model = os.path.join(os.path.dirname(__file__), "../../tests/vectors/tokenizer/small")
    differences, count, refused_count = 0, 0, 0

    def run(path, cases):
        lines = "".join(json.dumps({"messages": m, "tools": t, "add_generation_prompt": p,
                                    "chat_template_kwargs": {**SPECIAL, **v}}) + "\n" for _, m, t, p, v in cases)
        done = subprocess.run([program, "tokenize", "--model", model, "--render", "--chat-template", path],
                              input=lines, capture_output=True, text=True)
        return [json.loads(line)["text"] for line in done.stdout.splitlines()], done

    for path, template in template_files(paths):
        rendered, refused = [], []
        for case in conversation_cases():
            text, _ = render(template, *case[1:])
            (refused if text is None else rendered).append((case, text))
        texts, done = run(path, [case for case, _ in rendered])
        count += len(rendered)
        bad = [case[0] for (case, text), mine in zip(rendered, texts) if text != mine]
        if len(texts) < len(rendered):
            bad.append(done.stderr.strip())
        for case, _ in refused[:3]:
            refused_count += 1
            _, done = run(path, [case])
            if done.returncode != 1:
                bad.append(f"{case[0]}: transformers refuses, {program} does not")
        if bad:
            differences += len(bad)
            print(f"{path}: {len(bad)} differences: {bad[:3]}")
    print(f"{count} renderings and {refused_count} refusals compared, {differences} differences")
    return 1 if differences else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", metavar="FOLDER")
    parser.add_argument("program", nargs="?")
    parser.add_argument("templates", nargs="*", metavar="FOLDER or FILE")
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write)
    elif arguments.program:
        return check(arguments.program, arguments.templates)
    else:
        parser.error("found no program, expected qgrpo's path, or --write FOLDER")
    return 0


if __name__ == "__main__":
    sys.exit(main())
