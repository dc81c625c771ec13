#!/usr/bin/env python3
"""Tests of tools/check-structure: small trees with one fault each, and what must not be taken for one.

    check_structure.py TOOL
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

TOOL = ""

HEADER = "#pragma once\n%s\nnamespace qgrpo::engine {\nint %s();\n}  // namespace qgrpo::engine\n"


def function(name, lines, signature="int %s() {"):
    """A function of that many lines, its first and last included."""
    return "\n".join([signature % name] + ["  step();"] * (lines - 2) + ["}"]) + "\n"


def in_engine(body):
    return "namespace qgrpo::engine {\n" + body + "}  // namespace qgrpo::engine\n"


class CheckStructure(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.write("engine/a.h", HEADER % ('#include "model/io/b.h"', "a"))
        self.write("engine/a.cpp", '#include "engine/a.h"\n' + in_engine("int a() { return 1; }\n"))
        self.write("model/io/b.h", "#pragma once\nnamespace qgrpo::io {\nint b();\n}  // namespace qgrpo::io\n")
        self.write("README.md", "See [the engine](docs/engine.md#steps): `engine/a.h`.\n")
        self.write("docs/engine.md", "[Back](../README.md). `a.cpp`, `engine/`, `build/qgrpo`, `tests/NAME.txt`.\n")
        self.write("tests/cases.txt", "")

    def write(self, path, text):
        path = os.path.join(self.folder.name, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    def run_tool(self):
        run = subprocess.run([sys.executable, TOOL, self.folder.name], text=True, capture_output=True)
        return run.returncode, run.stdout, run.stderr

    def assert_kept(self):
        code, output, errors = self.run_tool()
        self.assertEqual((code, errors), (0, ""))
        self.assertIn("every rule kept", output)

    def assert_broken(self, *lines):
        """Exactly these lines are said."""
        code, _, errors = self.run_tool()
        self.assertEqual(errors.splitlines(), ["check-structure: " + line for line in lines])
        self.assertEqual(code, 1)

    def test_good_tree(self):
        self.assert_kept()

    def test_cycle_between_files(self):
        self.write("model/io/b.h", "#pragma once\n#include \"engine/a.h\"\n")
        self.assert_broken("cycle: engine/a includes model/io/b includes engine/a")

    def test_cycle_through_a_source(self):
        """No file includes itself here, but the header and the source of b belong together."""
        self.write("model/io/b.cpp", '#include "engine/a.h"\n')
        self.assert_broken("cycle: engine/a includes model/io/b includes engine/a")

    def test_cycle_within_a_component(self):
        self.write("engine/a.h", '#pragma once\n#include "engine/a.cpp"\n')
        self.assert_broken("cycle: engine/a.cpp includes engine/a.h includes engine/a.cpp")

    def test_cycle_between_neighbours(self):
        """Tests include by a path from tests/, and what lies beside them by its name."""
        self.write("tests/engine/x.h", '#include "engine/y.h"\n')
        self.write("tests/engine/y.h", '#include "x.h"\n')
        self.assert_broken("cycle: tests/engine/x includes tests/engine/y includes tests/engine/x")

    def test_folder(self):
        for i in range(45):
            self.write(f"tools/{i}", "")
            self.write(f"tests/vectors/{i}", "")
            self.write(f"tests/vectors/x{i}", "")
        self.assert_kept()
        self.write("tools/one-more", "")
        self.assert_broken("folder: tools/ has 46 files, more than 45: divide it")

    def test_namespace(self):
        self.write("engine/c.cpp", "namespace qgrpo::model {\nint c = 1;\n}  // namespace qgrpo::model\n")
        self.write("export/d.h", "namespace qgrpo::export_ {\nint d();\n\nint e();\n}  // namespace qgrpo::export_\n")
        self.assert_broken("namespace: engine/c.cpp opens qgrpo::model; its folder's is qgrpo::engine",
                           "namespace: export/d.h opens qgrpo::export_; its folder's is qgrpo::exporting")

    def test_namespaces_that_are_right(self):
        self.write("engine/c.cpp", "namespace qgrpo::model {\nstruct Config;\nclass Backend;\n}  // namespace qgrpo::model\n"
                   "namespace std {\ntemplate <>\nstruct hash<int>;\n}  // namespace std\n"
                   "namespace qgrpo::embedded {\nextern const char* const text;\n}\n"
                   "namespace qgrpo::engine {\nnamespace {\nint c = 1;\n}  // namespace\n"
                   "namespace inner {\nint d = 1;\n\n}  // namespace inner\n}  // namespace qgrpo::engine\n"
                   "const char* kText = R\"(\nnamespace other {\nint x;\n)\";\nnamespace {\nint e = 1;\n}  // namespace\n"
                   "int main() {}\n")
        self.assert_kept()

    def test_folder_without_a_namespace(self):
        self.write("gateway/server.h", "namespace qgrpo::gateway {\nint run();\n}  // namespace qgrpo::gateway\n")
        self.assert_broken("namespace: gateway/server.h: NAMESPACES in tools/check-structure has no line for its folder")

    def test_function(self):
        self.write("engine/c.cpp", in_engine(function("c", 80)))
        self.assert_kept()
        self.write("engine/c.cpp", in_engine(function("before", 3) + "\n" + function("c", 81)))
        message = "%s has 81 lines, more than 80: divide it, or give the reason in tools/long-functions.txt"
        self.assert_broken("function: engine/c.cpp:6: " + message % "c")

    def test_functions_of_every_form(self):
        long = [function("Engine::run", 81, "Result<int> %s(std::vector<int> a) const {"),
                function("kernel", 79, "template <int D>\n__global__ void __launch_bounds__(kThreads, D == 1 ? 2 : 3)\n"
                         "    %s(int a,\n           int b) {").replace("  step();\n", "", 1),
                function('"a case, (of two parts)"', 81, "TEST_CASE(%s) {"),
                "struct S {\n  int x = 0;\n" +
                "".join("  " + line + "\n" for line in function("member", 81).splitlines()) + "};\n",
                "const char* kText = R\"(\nint a() {\n" + "x\n" * 90 + "}\n)\";\n",
                "const int kTable[] = {\n" + "    1,\n" * 90 + "};\n"]
        self.write("engine/c.cpp", in_engine("\n".join(long)))
        code, _, errors = self.run_tool()
        self.assertEqual(code, 1)
        named = [line.split(": ")[3].split(" has ")[0] for line in errors.splitlines()]
        self.assertEqual(named, ["Engine::run", "kernel", 'TEST_CASE("a case, (of two parts)")', "member"])

    def test_reasons(self):
        self.write("engine/c.cpp", in_engine(function("c", 81)))
        self.write("tools/long-functions.txt", "# path | function | reason\nengine/c.cpp | c | one line a case\n")
        self.assert_kept()
        self.write("tools/long-functions.txt", "engine/c.cpp | c | one line a case\n\nengine/a.cpp | a | gone\n")
        self.assert_broken("function: tools/long-functions.txt:3: engine/a.cpp has no long function a: remove the line")
        self.write("tools/long-functions.txt", "engine/c.cpp | c |\n")
        code, _, errors = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("tools/long-functions.txt:1: expected `path | function | reason`", errors)

    def test_file(self):
        self.write("tools/script", "x\n" * 800)
        self.write("tests/vectors/data.json", "x\n" * 900)
        code, output, _ = self.run_tool()
        self.assertEqual(code, 0)
        self.assertIn("1 files of more than 400 lines: tools/script 800", output)
        self.write("tools/script", "x\n" * 801)
        self.assert_broken("file: tools/script has 801 lines, more than 800: divide it")

    def test_link(self):
        self.write("README.md", "[x](docs/gone.md)\n[y](https://example.com/z) [z](#here)\n")
        self.assert_broken("link: README.md:1: docs/gone.md is not there")

    def test_paths_in_backticks(self):
        self.write("docs/engine.md", "`engine/gone.h`, `engine/a.*`, `engine/z.*`\n`engine/a.h --flag` `gone.cu`\n"
                   "`model/io`, `model/nothing/`, `other/thing`, `a / b`, `tests/*.txt`\n"
                   "```\n`engine/gone.h`\n```\n")
        self.assert_broken(*(f"link: docs/engine.md:{line}: `{word}` is not there" for line, word in
                             ((1, "engine/gone.h"), (1, "engine/z.*"), (2, "gone.cu"), (3, "model/nothing/"))))

    def test_quoted_tests(self):
        self.write("tests/engine/test_a.cpp", 'TEST_CASE("one") {}\nTEST_CASE("two "\n          "lines") {}\n')
        self.write("docs/features.md", '| `engine/test_a.cpp`: "one", "two lines"; `engine/test_a.cpp`: "none" |\n')
        self.assert_broken('link: docs/features.md:1: tests/engine/test_a.cpp has no test "none"')

    def test_mutation(self):
        self.write("tests/mutations.json", json.dumps([
            {"name": "fine", "file": "engine/a.cpp", "find": "return 1"},
            {"name": "twice", "file": "engine/a.cpp", "find": "qgrpo::engine"},
            {"name": "gone", "file": "engine/b.cpp", "find": "x"}]))
        self.assert_broken('mutation: "twice": its text stands 2 times in engine/a.cpp, not once',
                           'mutation: "gone": engine/b.cpp is not there')

    def test_ignored_files_of_a_repository(self):
        subprocess.run(["git", "init", "-q", self.folder.name], check=True)
        self.write(".gitignore", "/build/\n")
        self.write("build/long", "x\n" * 900)
        self.assert_kept()


if __name__ == "__main__":
    TOOL = os.path.abspath(sys.argv[1])
    unittest.main(argv=sys.argv[:1])
