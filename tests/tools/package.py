#!/usr/bin/env python3
"""Tests of tools/package's parts: versions and run paths of ELF files, the wheel.

    package.py TOOLS PROGRAM
"""

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

TOOLS = PROGRAM = ""


class Elf(unittest.TestCase):
    def setUp(self):
        import elf
        self.elf = elf
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def test_versions(self):
        glibc = self.elf.highest_version([PROGRAM], "GLIBC")
        self.assertGreaterEqual(glibc, (2, 14))
        self.assertEqual(self.elf.who_needs([PROGRAM], "GLIBC", glibc), [os.path.basename(PROGRAM)])
        self.assertEqual(self.elf.highest_version([PROGRAM], "NOBODYS"), ())

    def test_closure(self):
        found = self.elf.closure([PROGRAM])
        for name in ("libcurl.so.4", "libz.so.1", "libcrypto.so.3"):
            self.assertIn(name, found)
        for name in found:
            self.assertNotRegex(name, r"^(libc|libm|libstdc\+\+|libgcc_s|ld-linux.*)\.so|^lib(cuda|cublas|nv)")

    def test_run_path(self):
        copy = os.path.join(self.folder.name, "program")
        shutil.copyfile(PROGRAM, copy)
        size = os.path.getsize(copy)
        self.assertEqual(self.elf.dynamic(copy, "RPATH"), ["$ORIGIN/../lib/qgrpo"])
        self.elf.set_run_path(copy, "$ORIGIN/lib")
        self.assertEqual(self.elf.dynamic(copy, "RPATH"), ["$ORIGIN/lib"])
        self.assertEqual(os.path.getsize(copy), size)
        with self.assertRaises(SystemExit):
            self.elf.set_run_path(copy, "$ORIGIN/../lib/qgrpo/longer")


class Wheel(unittest.TestCase):
    TAG = "py3-none-manylinux_2_34_x86_64"

    def setUp(self):
        import wheel
        self.wheel = wheel
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = os.path.join(self.folder.name, "root")
        self.write("bin/qgrpo", '#!/bin/sh\necho "program: $*"; exit 3\n', 0o755)
        self.write("lib/qgrpo/libqgrpo_cuda.so", "library")
        self.write("share/doc/qgrpo/README.md", "# qgrpo\n")
        self.write("share/doc/qgrpo/LICENSE", "MIT\n")
        self.write("share/doc/qgrpo/licenses/libz.txt", "zlib\n")

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    def make(self, toolkit="13.0.88", name="out"):
        output = os.path.join(self.folder.name, name)
        os.makedirs(output, exist_ok=True)
        return self.wheel.write_wheel(output, "0.1.0", self.TAG, self.root, 1700000000, [toolkit])

    def test_record(self):
        path = self.make()
        self.assertEqual(os.path.basename(path), f"qgrpo-0.1.0-{self.TAG}.whl")
        with zipfile.ZipFile(path) as archive:
            self.assertIsNone(archive.testzip())
            record = archive.read("qgrpo-0.1.0.dist-info/RECORD").decode()
            rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(record))}
            self.assertEqual(sorted(rows), sorted(archive.namelist()))
            for name, (digest, size) in rows.items():
                if name.endswith("/RECORD"):
                    self.assertEqual((digest, size), ("", ""))
                    continue
                content = archive.read(name)
                self.assertEqual(int(size), len(content))
                expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                self.assertEqual(digest, "sha256=" + expected)
            self.assertIn(f"Tag: {self.TAG}\n", archive.read("qgrpo-0.1.0.dist-info/WHEEL").decode())
            mode = archive.getinfo("qgrpo/bin/qgrpo").external_attr >> 16
            self.assertEqual(mode & 0o777, 0o755)
            self.assertIn("qgrpo-0.1.0.dist-info/licenses/licenses/libz.txt", archive.namelist())

    def test_extras(self):
        for toolkit, requirements in (("13.0.88", ("nvidia-cuda-runtime>=13.0,<14", "nvidia-cublas>=13.0,<14")),
                                      ("12.4.131", ("nvidia-cuda-runtime-cu12>=12.4,<13", "nvidia-cublas-cu12>=12.4,<13"))):
            text = self.wheel.metadata("0.1.0", "", [toolkit])
            extra = "cuda" + toolkit[:2]
            self.assertIn(f"Provides-Extra: {extra}\n", text)
            for requirement in requirements:
                self.assertIn(f'Requires-Dist: {requirement}; extra == "{extra}"\n', text)
        both = self.wheel.metadata("0.1.0", "", ["13.0.88", "12.4.131"])
        self.assertIn("Provides-Extra: cuda13\n", both)
        self.assertIn("Provides-Extra: cuda12\n", both)
        self.assertNotIn("Extra", self.wheel.metadata("0.1.0", ""))

    def test_same_bytes(self):
        first, second = self.make(name="a"), self.make(name="b")
        with open(first, "rb") as one, open(second, "rb") as other:
            self.assertEqual(one.read(), other.read())

    def test_pip(self):
        environment = os.path.join(self.folder.name, "venv")
        made = subprocess.run([sys.executable, "-m", "venv", environment], capture_output=True, check=False)
        if made.returncode != 0:
            self.skipTest("python3 has no venv")
        subprocess.run([environment + "/bin/pip", "install", "-q", "--no-index", self.make()], check=True)
        subprocess.run([environment + "/bin/pip", "check"], check=True, capture_output=True)
        for command in ([environment + "/bin/qgrpo"], [environment + "/bin/python", "-m", "qgrpo"]):
            result = subprocess.run([*command, "train", "--help"], capture_output=True, text=True, check=False)
            self.assertEqual((result.returncode, result.stdout), (3, "program: train --help\n"))


if __name__ == "__main__":
    TOOLS, PROGRAM = sys.argv[1:3]
    del sys.argv[1:3]
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.join(TOOLS, "packaging"))
    unittest.main()
