#include "tokenizer/jinja/json.h"
#include "tokenizer/jinja/template.h"

#include <doctest/doctest.h>

#include <map>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "tokenizer/chat_template.h"
#include "vectors.h"

namespace qgrpo::test {

using namespace tokenizer;
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string render(const std::string& source, const std::string& variables = "{}") {
  io::JsonDocument document;
  const tokenizer::jinja::Value all =
      tokenizer::jinja::from_json(document.parse(variables, "variables"));
  return tokenizer::jinja::Template(source, "T").render(all.dict()).text;
}

std::string problem(const std::string& source, const std::string& variables = "{}") {
  return error_of([&] { render(source, variables); });
}

}  // namespace

TEST_CASE("jinja: odd and even of floats are Python's, however large") {
  CHECK(render("{{ -3.0 is odd }} {{ -3.0 is even }} {{ 2.5 is odd }} {{ 1e300 is even }} "
               "{{ 1e19 is odd }} {{ -4.0 is even }}") == "True False False True False True");
}

TEST_CASE("jinja: each construct as transformers renders it") {
  const Vectors vectors("jinja_snippets.json");
  const std::string variables = vectors.root().at("variables").minified();
  std::size_t refused = 0;
  for (const auto& entry : vectors.root().at("snippets").as_array()) {
    const std::string source = entry.at("template").as_string();
    CAPTURE(source);
    if (entry.at("text").is_null()) {
      ++refused;
      CHECK(problem(source, variables).starts_with("T: line 1: "));
    } else {
      std::string text;
      CHECK(error_of([&] { text = render(source, variables); }) == "");
      CHECK(text == entry.at("text").as_string());
    }
  }
  CHECK(refused > 40);
}

TEST_CASE("jinja: the families' templates as transformers renders them") {
  const Vectors vectors("chat_rendered.json");
  const auto& root = vectors.root();
  tokenizer::jinja::Dict special;
  for (const auto& [name, text] : root.at("special_tokens").as_object()) {
    special.set(std::string_view(name), text.as_string());
  }
  std::map<std::string, ChatTemplate> templates;
  std::size_t marked = 0;
  for (const auto& entry : root.at("cases").as_array()) {
    const std::string name = entry.at("template").as_string();
    if (!templates.contains(name)) {
      const auto source = io::read_file(vector_path("tokenizer/chat/" + name));
      templates.emplace(
          name, ChatTemplate({std::make_shared<const tokenizer::jinja::Template>(source, name),
                              nullptr, special},
                             ChatTemplate::Rules::kOther, std::nullopt));
    }
    const std::string conversation = entry.at("conversation").as_string();
    CAPTURE(name);
    CAPTURE(conversation);
    const auto messages = read_messages(root.at("conversations").at(conversation));
    RenderOptions options;
    options.add_generation_prompt = entry.at("add_generation_prompt").as_bool();
    if (entry.at("tools").as_bool()) options.tools = root.at("tools").minified();
    options.variables = entry.at("variables").minified();
    tokenizer::jinja::Rendering out;
    const std::string error = error_of([&] { out = templates.at(name).render(messages, options); });
    if (entry.at("text").is_null()) {
      CHECK(error.starts_with(name + ": line "));
      continue;
    }
    CHECK(error == "");
    CHECK(out.text == entry.at("text").as_string());
    if (const auto spans = entry.find("generation")) {
      std::vector<std::string> texts;
      for (const auto& [begin, end] : out.generation) {
        texts.push_back(out.text.substr(begin, end - begin));
      }
      marked += texts.size();
      std::vector<std::string> expected;
      for (const auto& text : spans->as_array()) expected.push_back(text.as_string());
      CHECK(texts == expected);
    }
  }
  CHECK(templates.size() == 6);
  CHECK(marked > 20);
}

TEST_CASE("jinja: an error names the template, the line and the construct") {
  CHECK(problem("a\n{% if x %}\n{{ y | nofilter }}\n{% endif %}", R"({"x": 1})") ==
        "T: line 3: there is no filter 'nofilter'");
  CHECK(problem("\n\n{% for x in y %}\n{% endif %}") == "T: line 4: unknown tag {% endif %}");
  CHECK(problem("\n{{ a.b }}") == "T: line 2: 'a' is undefined");
  CHECK(problem("{{ raise_exception('two\nlines') }}") ==
        "T: line 1: the template refuses the conversation: two lines");
  CHECK(problem("{% include 'x' %}") ==
        "T: line 1: {% include %} is not supported in chat templates");
  CHECK(problem("{{ 9223372036854775807 + 1 }}") == "T: line 1: the result of + is 2^63 or more");
  CHECK(problem("{{ 9223372036854775808 }}") ==
        "T: line 1: the number 9223372036854775808 is 2^63 or more");
  CHECK(contains(problem("{{ x }}", R"({"x": 18446744073709551615})"), "less than 2^63"));
  CHECK(contains(error_of([] { tokenizer::jinja::Template("\xff", "T"); }), "not UTF-8"));
}

TEST_CASE("jinja: work on long texts and lists is counted before it is done") {
  const std::string loop = "{% for i in range(100000) %}";
  const std::string texts = "{% set s = 'a' * 60000000 %}{% set t = s ~ '' %}" + loop;
  for (const char* work : {"{{ s[5] }}", "{% if s == t %}{% endif %}", "{% if s < t %}{% endif %}",
                           "{% if s is eq(t) %}{% endif %}", "{% if s in [t] %}{% endif %}"}) {
    CAPTURE(work);
    CHECK(contains(problem(texts + work + "{% endfor %}"), "steps"));
  }
  CHECK(contains(problem("{{ ('ab' * 20000000).title() }}"), "steps"));
  CHECK(contains(problem("{% for c in 'a' * 60000000 %}{% endfor %}"), "MiB"));
  CHECK(contains(problem("{{ ('a' * 60000000) | list | length }}"), "MiB"));
  // Few objects, but 2^60 of them in each other.
  const std::string nested =
      "{% set n = namespace(a=[0], b=[0]) %}{% for i in range(60) %}"
      "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}";
  CHECK(contains(problem(nested + "{{ n.a == n.b }}"), "steps"));
  CHECK(contains(problem(nested + "{{ n.a in [n.b] }}"), "steps"));
  CHECK(contains(problem(nested + "{{ [n.a, n.b] | sort }}"), "steps"));
  // A search takes the time of reading, not the product of the lengths.
  const std::string search =
      "{% set s = 'a' * 4000000 %}{% set p = 'a' * 1000000 ~ 'b' %}"
      "{% set q = 'b' ~ 'a' * 1000000 %}";
  CHECK(render(search + "{{ p in s }} {{ s.find(p) }} {{ s.count(p) }} {{ s.split(p) | length }} "
                        "{{ s.replace(p, '') | length }}") == "False -1 0 1 4000000");
  CHECK(render(search + "{{ s.rfind(q) }} {{ s.rsplit(q) | length }} {{ s.rpartition(q)[0] }}") ==
        "-1 1 ");
  CHECK(render("{{ ('a ' * 300000).rsplit() | length }}") == "300000");
  CHECK(render("{{ s.strip('b' * 1000000 ~ 'a') }}", R"({"s": "aaca"})") == "c");
}

TEST_CASE("jinja: a text is searched from its end") {
  CHECK(render("{{ 'a--b--c'.rsplit('--', 1) }}") == "['a--b', 'c']");
  CHECK(render("{{ 'aaa'.rsplit('aa') }} {{ 'aaa'.split('aa') }}") == "['a', ''] ['', 'a']");
  CHECK(render("{{ 'xéyéz'.rsplit('é') | join('+') }}") == "x+y+z");
  CHECK(render("{{ ' a éb  c '.rsplit(None, 1) | join('+') }}") == " a éb+c");
  CHECK(render("{{ 'abab'.rfind('ab') }} {{ 'abab'.rfind('') }} {{ 'ab'.rpartition('b') }}") ==
        "2 4 ('a', 'b', '')");
}

TEST_CASE("jinja: a template that does not end is stopped") {
  CHECK(contains(problem("{% for a in range(100000) %}{% for b in range(100000) %}{% if b %}{% "
                         "endif %}{% endfor %}"
                         "{% endfor %}"),
                 "steps"));
  CHECK(contains(problem("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), "deep"));
  CHECK(contains(problem("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}"), "deep"));
  CHECK(contains(problem("{% set n = namespace(s='x') %}{% for i in range(99) %}"
                         "{% set n.s = n.s ~ n.s %}{% endfor %}"),
                 "64 MiB"));
  CHECK(contains(problem("{% set n = namespace(l=[1]) %}{% for i in range(99) %}"
                         "{% set n.l = n.l + n.l %}{% endfor %}"),
                 "MiB"));
  CHECK(contains(problem("{{ 'x' * 99999999999 }}"), "64 MiB"));
  CHECK(contains(problem("{{ 'ab'.center(99999999999) }}"), "64 MiB"));
  CHECK(contains(problem("{{ '%999999999d' % 1 }}"), "100 million"));
  CHECK(contains(problem("{% set n = namespace() %}{% set n.n = n %}{{ n }}"), "deep"));
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "(";
  CHECK(contains(problem("{{ " + deep + "1" + std::string(100000, ')') + " }}"),
                 "nested more than 200 deep"));
  std::string tags;
  for (int i = 0; i < 10000; ++i) tags += "{% if x %}";
  CHECK(contains(problem(tags), "nested more than 200 deep"));
  std::string sum = "1";
  for (int i = 0; i < 10000; ++i) sum += "+1";
  CHECK(contains(problem("{{ " + sum + " }}"), "nested more than 200 deep"));
  std::string negated = "1";
  for (int i = 0; i < 10000; ++i) negated = "-" + negated;
  CHECK(contains(problem("{{ " + negated + " }}"), "nested more than 200 deep"));
}

TEST_CASE("jinja: a template cut anywhere is an error or a text, never a crash") {
  for (const char* name : {"macro_style.jinja", "inst_style.jinja"}) {
    const auto source = io::read_file(vector_path(std::string("tokenizer/chat/") + name));
    std::size_t errors = 0;
    for (std::size_t size = 0; size < source.size(); size += 3) {
      const auto error =
          problem(source.substr(0, size), R"({"messages": [{"role": "user", "content": "a"}]})");
      errors += error.empty() ? 0 : 1;
      CHECK((error.empty() || error.starts_with("T: line ")));
    }
    CHECK(errors > 100);
  }
}

}  // namespace qgrpo::test
