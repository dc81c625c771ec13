#!/usr/bin/env python3
"""Tests of tools/mutate --random: the mutants of small sources, and a campaign on a small build.

    mutate.py TOOLS
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
if len(sys.argv) > 1:
    sys.path.insert(0, sys.argv.pop(1))
from mutation import campaign, report, rules  # noqa: E402


def changed(source, rule=None):
    """The lines that mutants make of a source."""
    return [m.shown(source)[1] for m in rules.mutants(source) if rule in (None, m.rule)]


def function(body):
    return "int f(int a, int b) {\n  " + body + "\n}\n"


class Rules(unittest.TestCase):
    def expect(self, body, rule, expected):
        self.assertEqual(changed(function(body), rule), expected)

    def test_operators(self):
        self.expect("return a < b && a != 3;", "compare", ["return a <= b && a != 3;", "return a < b && a == 3;"])
        self.expect("return a < b && a != 3;", "logic", ["return a < b || a != 3;"])
        self.expect("return a + b * a;", "arithmetic", ["return a - b * a;", "return a + b / a;"])
        self.expect("return a >> b | 1;", "bits", ["return a << b | 1;", "return a >> b & 1;"])
        self.expect("return std::min(a, b);", "word", ["return std::max(a, b);"])
        self.expect("return -a + !b;", "sign", ["return a + !b;", "return -a + b;"])
        self.expect("return a.b() - 1;", "sign", [])

    def test_templates_and_pointers_are_no_operators(self):
        self.expect("std::vector<int> v(3); int* p = &a; auto&& r = v;", "compare", [])
        self.expect("std::vector<int> v(3); int* p = &a; auto&& r = v;", "arithmetic", [])
        self.expect("std::vector<int> v(3); int* p = &a; auto&& r = v;", "logic", [])

    def test_constants(self):
        self.expect("return 7;", "constant", ["return 6;", "return 8;"])
        self.expect("return 0;", "constant", ["return 1;"])
        self.expect("return 2'048u;", "constant", ["return 2047u;", "return 2049u;"])
        self.expect("return 0x10;", "constant", ["return 15;", "return 17;"])
        self.expect("return 1e-6f;", "constant", ["return (2 * 1e-6f);"])
        self.expect("return 0.0f;", "constant", ["return 1.0f;"])

    def test_conditions_and_bounds(self):
        self.expect("if (a < b) return 1;", "condition", ["if (!(a < b)) return 1;"])
        self.expect("if (int c = a; c < b) return 1;", "condition", ["if (int c = a; !(c < b)) return 1;"])
        self.expect("for (int i = 0; i < b; ++i) f(i, i);", "bound",
                    ["for (int i = 0; i < b - 1; ++i) f(i, i);", "for (int i = 0; i < b + 1; ++i) f(i, i);"])
        self.expect("for (int i = 0; i < b; ++i) f(i, i);", "assign", [])

    def test_statements(self):
        self.expect("int c = a; c = b; g(c); return c;", "statement", ["int c = a; ; g(c); return c;", "int c = a; c = b; ; return c;"])
        self.expect("for (int i = 0; i < b; ++i) g(i);", "statement", ["for (int i = 0; i < b; ++i) ;"])
        self.expect("v.reserve(8); std::vector<int> w;", "statement", [])
        self.expect('if (a) throw Error("a {}", a + 1);', "statement", ["if (a) ;"])

    def test_arguments(self):
        self.expect("return g(a, b + 1);", "arguments", ["return g(b + 1, a);"])
        self.expect("return std::min(a, b);", "arguments", [])
        self.expect("return g(a, a);", "arguments", [])

    def test_a_statement_over_lines_keeps_the_lines_behind_it(self):
        source = function("g(a,\n    b);\n  return 1;")
        for mutant in rules.mutants(source):
            self.assertEqual(mutant.applied(source).count("\n"), source.count("\n"))

    def test_what_does_not_run_stays(self):
        for source in ("// a < b\n", "/* 1 + 2 */\n", '#include "a-1.h"\n#define N 4 + 3 \\\n  + 5\n',
                       "int f(int a = 3);\n", "enum class Kind { one = 1, two = 1 + 1 };\n",
                       "template <int N = 4> struct Row { void f() const; };\n", "struct A { virtual int f() = 0; };\n",
                       "namespace a { class B; int f(const int& a, int b); }\n",
                       function('static_assert(1 + 2 == 3); fmt::print("{}", a + 1);'),
                       function('throw Error(fmt::format("found {}, expected {}", a + 1, 2));')):
            left = [line for line in changed(source) if "throw" not in source]
            self.assertEqual(left, [], source)
        # Of a check the condition can be wrong, but not its words.
        self.expect('require(a > b, "found {}, expected {}", a - 1, 7);', "arithmetic", [])
        self.expect('require(a > b, "found {}, expected {}", a - 1, 7);', "compare",
                    ['require(a >= b, "found {}, expected {}", a - 1, 7);'])

    def test_constants_outside_of_functions(self):
        self.assertEqual(changed("namespace a {\nconstexpr int kRows = 64;\n}\n"),
                         ["constexpr int kRows = 63;", "constexpr int kRows = 65;"])
        self.assertEqual(changed("struct A {\n  int rows = 1;\n  int f() const;\n};\n"), ["int rows = 0;", "int rows = 2;"])

    def test_constructors_and_lambdas(self):
        self.assertEqual(changed("A::A(int a) : a_{a}, b_(a) {\n  a_ = a + 1;\n}\n", "arithmetic"), ["a_ = a - 1;"])
        self.assertEqual(changed("const auto f = [](int a) { return a + 1; };\n", "arithmetic"),
                         ["const auto f = [](int a) { return a - 1; };"])


SMALL = """#include "small.h"
int sum(const int* values, int count) {
  int total = 0;
  for (int i = 0; i < count; ++i) total += values[i];
  return total;
}
int unseen(int a) { return a + 1; }
int same(int a) { return a * 1; }
"""
# It takes the place of doctest: what it is told is not read.
CHECK = """#include "../small.h"
int main() {
  const int values[] = {1, 2, 3, 4};
  return sum(values, 3) == 6 ? 0 : 1;
}
"""
CMAKE = """cmake_minimum_required(VERSION 3.22)
project(small CXX)
add_library(small STATIC engine/small.cpp)
target_include_directories(small PUBLIC engine)
add_subdirectory(tests)
"""


class Build(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.source = os.path.join(cls.folder, "source")
        for name, text in {"CMakeLists.txt": CMAKE, "engine/small.cpp": SMALL,
                           "small.h": "int sum(const int* values, int count);\n",
                           "engine/small.h": '#include "../small.h"\n',
                           "tests/engine/test_small.cpp": '#include "../../small.h"\n' + CHECK.partition("\n")[2],
                           "tests/CMakeLists.txt": "add_executable(test_engine engine/test_small.cpp)\n"
                                                   "target_link_libraries(test_engine small)\n"}.items():
            path = os.path.join(cls.source, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        cls.equivalents = os.path.join(cls.folder, "equivalent.json")
        with open(cls.equivalents, "w", encoding="utf-8") as file:
            file.write("[]")
        cls.build = campaign.prepare(cls.folder, cuda=False)[1]

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def work(self, results="results.jsonl"):
        return campaign.Campaign(self.source, self.build, os.path.join(self.folder, results), self.equivalents, 60)

    def verdict(self, after):
        work = self.work()
        source = work.text("engine/small.cpp")
        mutant = next(m for m in work.mutants("engine/small.cpp") if m.shown(source)[1] == after)
        return work.try_mutant("engine/small.cpp", mutant)["verdict"]

    def test_verdicts(self):
        self.assertEqual(self.verdict("for (int i = 0; i <= count; ++i) total += values[i];"), "noticed")
        self.assertEqual(self.verdict("int unseen(int a) { return a - 1; }"), "survived")
        self.assertEqual(self.verdict("int same(int a) { return a / 1; }"), "equivalent")

    def test_everything_is_put_back(self):
        self.verdict("int unseen(int a) { return a + 2; }")
        self.assertEqual(self.work().text("engine/small.cpp"), SMALL)
        subprocess.run([os.path.join(self.build, "tests/test_engine")], check=True)
        dry = subprocess.run(["ninja", "-C", self.build, "-n"], capture_output=True, text=True).stdout
        self.assertIn("no work to do", dry)

    def test_a_campaign_goes_on_where_it_was(self):
        self.work("whole.jsonl").random(6, 3, ["engine"])
        self.work("parts.jsonl").random(2, 3, ["engine"])
        self.work("parts.jsonl").random(6, 3, ["engine"])
        keys = ("seed", "number", "file", "rule", "after", "verdict")
        lists = []
        for name in ("whole.jsonl", "parts.jsonl"):
            with open(os.path.join(self.folder, name), encoding="utf-8") as file:
                lists.append([[json.loads(line)[key] for key in keys] for line in file])
        self.assertEqual(lists[0], lists[1])
        self.assertEqual(len(lists[0]), 6)

    def test_a_draw_is_the_seeds(self):
        work = self.work()
        draws = [work.draw(random.Random(f"1:{n}"), "engine") for n in range(20)]
        self.assertEqual(draws, [work.draw(random.Random(f"1:{n}"), "engine") for n in range(20)])
        self.assertGreater(len({m.rule for _, m in draws}), 2)


class Report(unittest.TestCase):
    def test_the_section_is_replaced_and_the_others_stay(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "mutations.md")
            report.write(path, report.BY_HAND, "one")
            report.write(path, report.RANDOM, "two")
            report.write(path, report.BY_HAND, "three")
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), f"{report.TITLE}\n{report.BY_HAND}\n\nthree\n\n{report.RANDOM}\n\ntwo\n")

    def test_rates(self):
        records = [{"file": f"cpu/{v}", "verdict": v} for v in ("noticed", "noticed", "noticed", "survived", "equivalent")]
        self.assertEqual(report.summary(records)[-1], "| all | 5 | 3 | 1 | 1 | 75.0 % |")


if __name__ == "__main__":
    unittest.main()
