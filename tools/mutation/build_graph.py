"""What a source becomes: the objects, libraries and test programs that are made of it, from a Ninja build folder."""

import collections
import json
import os
import re
import subprocess

EDGE = re.compile(r"^build (.*?)(?<!\$): (\S+) ?(.*)$")


def environment():
    """Objects of mutants are of no use to anybody else."""
    return dict(os.environ, CCACHE_DISABLE="1")


class BuildGraph:
    """The folder must be built. Paths of outputs are relative to it, as Ninja writes them."""

    def __init__(self, folder, source):
        self.folder, self.source = os.path.abspath(folder), os.path.abspath(source)
        self.users = collections.defaultdict(set)  # of an output: what is made of it
        self.inputs, self.rules = {}, {}
        self.starters = collections.defaultdict(set)  # of a program: the tests that start it
        self._read_edges()
        listed = subprocess.run(["ninja", "-C", self.folder, "-t", "compdb"], check=True, capture_output=True, text=True)
        text = listed.stdout[listed.stdout.index("["):]
        self.commands = {entry["output"]: entry["command"] for entry in json.loads(text)}
        self.objects = self._objects_of_sources()

    def _read_edges(self):
        with open(os.path.join(self.folder, "build.ninja"), encoding="utf-8") as file:
            text = file.read().replace("$\n", "")
        for line in text.splitlines():
            edge = EDGE.match(line)
            if not edge or edge.group(2) == "phony":
                continue
            outputs = edge.group(1).replace("|", " ").split()
            made_of, _, order = edge.group(3).partition("||")
            inputs = made_of.replace("|", " ").split()
            self.inputs[outputs[0]], self.rules[outputs[0]] = inputs, edge.group(2)
            for item in inputs:
                self.users[item].add(outputs[0])
            for item in order.split():
                self.starters[item].add(outputs[0])

    def _objects_of_sources(self):
        """Of each source and header of the tree, by its path there: the objects that are compiled from it."""
        found = collections.defaultdict(set)
        listed = subprocess.run(["ninja", "-C", self.folder, "-t", "deps"], check=True, capture_output=True, text=True)
        output, real = None, {}
        for line in listed.stdout.splitlines():
            if not line.startswith(" "):
                output = line.partition(":")[0]
                continue
            path = os.path.join(self.folder, line.strip())
            if path not in real:
                real[path] = os.path.relpath(os.path.realpath(path), self.source)
            if not real[path].startswith(".."):
                found[real[path]].add(output)
        return found

    def is_program(self, output):
        return "_LINKER" in self.rules.get(output, "") and "STATIC" not in self.rules[output]

    def made_of(self, objects):
        """All that is linked or archived from the objects, in an order in which it can be made; no target that makes no file."""
        order, seen = [], set()

        def visit(output):
            if output in seen:
                return
            seen.add(output)
            for user in sorted(self.users[output]):
                visit(user)
            order.append(output)
        for item in objects:
            visit(item)
        order.reverse()
        return [o for o in order if o not in objects and o in self.commands and not o.endswith((".o", ".gch"))
                and os.path.exists(os.path.join(self.folder, o))]

    def test_programs(self, made):
        """The test programs among `made`, and those that start a program among it."""
        tests = {o for o in made if re.match(r"tests/test_\w+$", o)}
        for output in made:
            if self.is_program(output):
                tests |= {o for o in self.starters[output] if re.match(r"tests/test_\w+$", o)}
        return sorted(tests)

    def test_sources(self, program):
        """The sources of a test program that have test cases, by their path in the tree."""
        sources = []
        for item in self.inputs.get(program, []):
            match = re.match(r"tests/CMakeFiles/\w+\.dir/(.*\.cpp)\.o$", item)
            if match and os.path.basename(match.group(1)).startswith("test_"):
                sources.append("tests/" + match.group(1))
        return sources

    def run(self, output, extra=()):
        """Makes one output by its command; `extra`: more options, for a compilation. True: it was made."""
        command = self.commands[output]
        if extra:
            command += " " + " ".join(extra)
        made = subprocess.run(command, shell=True, cwd=self.folder, env=environment(), capture_output=True)
        return made.returncode == 0
