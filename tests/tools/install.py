#!/usr/bin/env python3
"""What `cmake --install` makes runs from wherever it is moved to.

    install.py CMAKE BUILD MODEL
"""

import os
import subprocess
import sys
import tempfile
import unittest

CMAKE = BUILD = MODEL = ""


def run(*command, **environment):
    result = subprocess.run(command, capture_output=True, text=True, check=False, input='{"ids":[5,17,42]}\n',
                            env=dict(os.environ, **environment))
    if result.returncode != 0:
        raise AssertionError(f"{command}: {result.stderr}")
    return result.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = os.path.join(cls.folder.name, "moved to", "here")
        first = os.path.join(cls.folder.name, "first")
        run(CMAKE, "--install", BUILD, "--prefix", first)
        os.makedirs(os.path.dirname(cls.root))
        os.rename(first, cls.root)
        cls.program = os.path.join(cls.root, "bin/qgrpo")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def cuda_line(self, program):
        return next(line for line in run(program, "--version").splitlines() if line.startswith("cuda: "))

    def test_places(self):
        for name in ("share/doc/qgrpo/README.md", "share/doc/qgrpo/LICENSE", "share/doc/qgrpo/CHANGELOG.md",
                     "share/doc/qgrpo/docs/cuda.md", "share/qgrpo/examples/gsm8k-qwen2.5-3b.toml"):
            self.assertTrue(os.path.exists(os.path.join(self.root, name)), name)
        self.assertTrue(os.access(os.path.join(self.root, "share/qgrpo/examples/r1-recipe.sh"), os.X_OK))

    def test_runs_on_the_cpu(self):
        built = os.path.join(BUILD, "qgrpo")
        arguments = ("score", "--model", MODEL, "--device", "cpu")
        self.assertEqual(run(self.program, *arguments), run(built, *arguments))

    def test_the_program_needs_no_cuda_library(self):
        needed = run("readelf", "-d", "--wide", self.program)
        for name in ("libcuda", "libcublas", "libnv"):
            self.assertNotIn(name, needed)
        self.assertIn("(RPATH)", needed)
        self.assertNotIn("(RUNPATH)", needed)

    def test_finds_its_cuda_backend(self):
        if self.cuda_line(self.program) == "cuda: not built":
            self.skipTest("no CUDA backend")
        plugin = os.path.join(self.root, "lib/qgrpo/libqgrpo_cuda.so")
        link = os.path.join(self.folder.name, "link")
        os.symlink(self.program, link)
        for program in (self.program, link):
            self.assertTrue(self.cuda_line(program).endswith(plugin), self.cuda_line(program))
        needed = run("readelf", "-d", "--wide", plugin)
        self.assertIn("(RUNPATH)", needed)  # behind LD_LIBRARY_PATH
        self.assertNotIn("(RPATH)", needed)

    def test_computes_on_the_software_gpu(self):
        softgpu = os.path.join(BUILD, "softgpu")
        if not os.path.isdir(softgpu) or not any(name.startswith("libcublasLt.so") for name in os.listdir(softgpu)):
            self.skipTest("no software GPU")
        out = run(self.program, "score", "--model", MODEL, "--device", "cuda", LD_LIBRARY_PATH=softgpu, SOFTGPU_SMS="8")
        self.assertIn('"logprobs": [null, -', out)


if __name__ == "__main__":
    CMAKE, BUILD, MODEL = sys.argv[1:4]
    del sys.argv[1:4]
    unittest.main()
