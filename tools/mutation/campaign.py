"""Random mutants: draws them, builds what is made of each, runs the tests that link it, and keeps the results."""

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time

from .build_graph import BuildGraph
from .isolation import DANGEROUS, Runner
from .rules import mutants

FOLDERS = ("cuda", "cpu", "model", "engine", "train")
LEFT_OUT = re.compile(r"^(model/ops/cases|cuda/plugin/library)/")
HEADER_OBJECTS = 6  # a header that more is compiled from takes too long
DRAWS = 40  # of one number, until something compiles
NOTICED, SURVIVED, EQUIVALENT = "noticed", "survived", "equivalent"
# The CUDA backend's tests take minutes on the software GPU: they are for its own mutants.
GPU_TESTS, GPU_FOLDER = "tests/test_cuda", "cuda"
GPU = {"SOFTGPU_SMS": "8", "QGRPO_CUDA_REQUIRED": "1", "SOFTGPU_SCHEDULE": "7"}


def words_of(path):
    stem = os.path.splitext(path)[0]
    return {word for word in re.split(r"[/_]", stem) if word not in ("tests", "test", "kernels")}


class Unit:
    """The test cases of one source of one test program."""

    def __init__(self, program, source, seconds):
        self.program, self.source, self.seconds = program, source, seconds

    def cost(self, path):
        """Cheap and near is first: a shared word of their names is worth a fourth of the time."""
        return self.seconds * 0.25 ** len(words_of(path) & words_of(self.source))


class Campaign:
    def __init__(self, source, folder, results, equivalents, budget_s):
        self.source, self.folder, self.results, self.budget_s = source, folder, results, budget_s
        self.runner = Runner(os.path.join(os.path.dirname(source), "scratch"))
        self.graph = BuildGraph(folder, source)
        self.environment = dict(os.environ)
        self.gpu_environment = dict(os.environ, LD_LIBRARY_PATH=os.path.join(folder, "softgpu"), **GPU)
        self.times_path = os.path.join(os.path.dirname(source), "times.json")
        self.times = _read_json(self.times_path, {})
        with open(equivalents, encoding="utf-8") as file:
            self.equivalents = {(e["file"], e["before"], e["after"]) for e in json.load(file)}
        self.texts = {}

    # What can be changed.

    def sources(self, folder):
        found = []
        for path, objects in sorted(self.graph.objects.items()):
            if path != folder and not path.startswith(folder + "/") or LEFT_OUT.match(path):
                continue
            if not path.endswith((".cpp", ".cu", ".h", ".cuh")) or len(objects) > HEADER_OBJECTS:
                continue
            if not self.runner.isolated() and DANGEROUS.search(self.text(path)):
                continue
            if self.mutants(path):
                found.append(path)
        return found

    def text(self, path):
        with open(os.path.join(self.source, path), encoding="utf-8") as file:
            return file.read()

    def mutants(self, path):
        if path not in self.texts:
            self.texts[path] = mutants(self.text(path))
        return self.texts[path]

    def draw(self, generator, folder):
        """A file by the number of its mutants, a rule that it has, one of that rule's."""
        files = self.sources(folder)
        if not files:
            sys.exit(f"--folder {folder}: nothing there is compiled in this build")
        path = generator.choices(files, [len(self.mutants(f)) for f in files])[0]
        rule = generator.choice(sorted({m.rule for m in self.mutants(path)}))
        return path, generator.choice([m for m in self.mutants(path) if m.rule == rule])

    # One mutant.

    @contextlib.contextmanager
    def changed(self, path, text):
        """The source is `text`, and what is built meanwhile is gone afterwards."""
        place = os.path.join(self.source, path)
        before, status = self.text(path), os.stat(place)
        kept = {}
        try:
            _write(place, text)
            yield kept
        finally:
            _write(place, before)
            os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
            for output, copy in kept.items():
                os.replace(copy, os.path.join(self.folder, output))

    def make(self, output, kept, extra=()):
        """Makes an output anew; the one before goes to `kept`."""
        if output not in kept:
            place = os.path.join(self.folder, output)
            os.rename(place, place + ".kept")
            kept[output] = place + ".kept"
        return self.graph.run(output, extra)

    def try_mutant(self, path, mutant):
        """What becomes of it: a record without its number; None: it does not compile."""
        source = self.text(path)
        before, after = mutant.shown(source)
        record = {"file": path, "line": mutant.line(source), "rule": mutant.rule, "before": before, "after": after}
        start = time.monotonic()
        with self.changed(path, mutant.applied(source)) as kept:
            objects = sorted(self.graph.objects[path])
            for output in objects:
                warnings = ["-Xcompiler=-w", "-w", "-Wno-error"] if path.endswith((".cu", ".cuh")) else ["-w"]
                if not self.make(output, kept, warnings):
                    return None
            differing = [o for o in objects if not _same(os.path.join(self.folder, o), kept[o])]
            if not differing:
                record.update(verdict=EQUIVALENT, by="the compiler makes the same code")
            elif (path, before, after) in self.equivalents:
                record.update(verdict=EQUIVALENT, by="tests/equivalent_mutants.json")
            else:
                record.update(self.judge(path, objects, kept))
        record["seconds"] = round(time.monotonic() - start, 1)
        return record

    def judge(self, path, objects, kept):
        made = self.graph.made_of(objects)
        units = self.units(self.programs(path, made))
        units.sort(key=lambda unit: unit.cost(path))
        spent, ran, ready = 0.0, 0, set()
        for unit in units:
            if ran and spent + unit.seconds > self.budget_s:
                continue
            for output in made:
                wanted = output == unit.program or not output.startswith("tests/test_")
                # The program and the CUDA backend's library: only for tests that start them.
                if self.graph.is_program(output) and output != unit.program:
                    wanted = unit.program in self.graph.starters[output]
                if wanted and output not in ready:
                    if not self.make(output, kept):
                        return {"verdict": NOTICED, "by": f"the linker, of {output}"}
                    ready.add(output)
            failing = self.run(unit)
            spent, ran = spent + unit.seconds, ran + 1
            if failing:
                return {"verdict": NOTICED, "by": failing}
        return {"verdict": SURVIVED, "by": f"{ran} of {len(units)} test sources ran"}

    # Tests.

    def programs(self, path, made):
        return [p for p in self.graph.test_programs(made) if p != GPU_TESTS or path.split("/")[0] == GPU_FOLDER]

    def units(self, programs):
        found = []
        for program in programs:
            for source in self.graph.test_sources(program):
                seconds = self.times.get(f"{program} {source}", 1.0)
                if seconds is not None:
                    found.append(Unit(program, source, seconds))
        return found

    def run(self, unit, limit_s=None):
        """What fails first, or None."""
        command = [os.path.join(self.folder, unit.program), f"-sf=*/{unit.source}", "--abort-after=1", "--no-version"]
        environment = self.gpu_environment if unit.program == GPU_TESTS else self.environment
        status, output = self.runner.run(command, environment, limit_s or 20 + 8 * unit.seconds)
        if status is None:
            return f"{unit.source} (does not end)"
        if status == 0:
            return None
        names = re.findall(r"TEST CASE:\s+(.*)", output)
        return names[0].strip() if names else f"{unit.source} (exit {status})"

    def measure(self, folders):
        """How long each test takes, once a build folder; what fails or takes too long already is left out, and said."""
        programs = set()
        for folder in folders:
            for path in self.sources(folder):
                programs.update(self.programs(path, self.graph.made_of(sorted(self.graph.objects[path]))))
        for program in sorted(programs):
            for source in self.graph.test_sources(program):
                name = f"{program} {source}"
                if name in self.times:
                    continue
                start = time.monotonic()
                failing = self.run(Unit(program, source, 0.0), limit_s=600)
                self.times[name] = None if failing else round(time.monotonic() - start, 2)
                if failing:
                    print(f"{name}: fails without any mutant ({failing}); left out", flush=True)
                _write(self.times_path, json.dumps(self.times, indent=1))

    # All.

    def records(self):
        """What is known of each (seed, number): the last that was found out."""
        known = {}
        if os.path.exists(self.results):
            with open(self.results, encoding="utf-8") as file:
                for line in file:
                    record = json.loads(line)
                    known[record["seed"], record["number"]] = record
        return known

    def keep(self, record):
        with open(self.results, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(f"[{record['seed']}:{record['number']}] {record['verdict']:10} {record['file']}:{record['line']} "
              f"{record['rule']}: {record['after'][:90]}  <- {record['by'][:80]} ({record['seconds']:.0f} s)", flush=True)

    def random(self, count, seed, folders):
        """Mutants 0 to count - 1 of the seed, those not yet in the results; the folders take turns."""
        self.measure(folders)
        for number in range(count):
            records = self.records()
            if (seed, number) in records:
                continue
            tried = {(r["file"], r["line"], r["rule"], r["after"]) for r in records.values()}
            generator = random.Random(f"{seed}:{number}")
            for _ in range(DRAWS):
                path, mutant = self.draw(generator, folders[number % len(folders)])
                source = self.text(path)
                if (path, mutant.line(source), mutant.rule, mutant.shown(source)[1]) in tried:
                    continue
                record = self.try_mutant(path, mutant)
                if record:
                    self.keep(dict(seed=seed, number=number, **record))
                    break

    def again(self, seed):
        """The survivors of the seed (None: of all) once more: after new tests, or with a greater budget."""
        for (of_seed, number), old in sorted(self.records().items()):
            if old["verdict"] != SURVIVED or seed is not None and of_seed != seed:
                continue
            source = self.text(old["file"])
            same = [m for m in self.mutants(old["file"])
                    if m.rule == old["rule"] and m.shown(source) == (old["before"], old["after"])]
            same.sort(key=lambda m: abs(m.line(source) - old["line"]))
            if not same:
                print(f"[{of_seed}:{number}] {old['file']}:{old['line']}: the source has changed; kept as it is")
                continue
            self.measure([old["file"]])
            record = self.try_mutant(old["file"], same[0])
            if record:
                self.keep(dict(seed=of_seed, number=number, **record))


def _same(one, other):
    with open(one, "rb") as a, open(other, "rb") as b:
        return a.read() == b.read()


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _read_json(path, otherwise):
    if not os.path.exists(path):
        return otherwise
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def prepare(folder, cuda):
    """The build that mutants are made in, brought up to date: (source, build folder)."""
    source = os.path.join(folder, "source")
    build = os.path.join(source, "build")
    command = ["cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DQGRPO_WERROR=ON",
               f"-DQGRPO_CUDA={'ON' if cuda else 'OFF'}", "-DQGRPO_CUDA_ARCHITECTURES=80-virtual"]
    if shutil.which("ld.lld"):
        command += ["-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=lld", "-DCMAKE_SHARED_LINKER_FLAGS=-fuse-ld=lld"]
    if shutil.which("ccache"):
        command += ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache", "-DCMAKE_CUDA_COMPILER_LAUNCHER=ccache"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    made = subprocess.run(["ninja", "-C", build], capture_output=True, text=True)
    if made.returncode != 0:
        sys.exit("the unchanged sources do not build:\n" + made.stdout[-3000:])
    return os.path.abspath(source), os.path.abspath(build)
