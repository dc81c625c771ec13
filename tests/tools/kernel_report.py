#!/usr/bin/env python3
"""Tests of tools/kernel-report, on PTX made here: kernels whose spills, instructions and occupancy are known.

    kernel_report.py TOOL [TOOLKIT]
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

TOOL = ""
TOOLKIT = []

HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"


def entry(name, body, bounds=".maxntid 128, 1, 1"):
    return ".visible .entry %s(.param .u64 p)\n%s\n{\n%s\nret;\n}\n" % (name, bounds, body)


PLAIN = entry("plain", """.reg .b64 %rd<4>; .reg .b32 %r<4>;
ld.param.u64 %rd1, [p]; cvta.to.global.u64 %rd2, %rd1; mov.u32 %r1, %tid.x;
mul.wide.u32 %rd3, %r1, 4; add.u64 %rd3, %rd3, %rd2; st.global.u32 [%rd3], %r1;""")

# An array that is indexed by a value that the compiler does not know: it has to lie in local memory.
LOCAL = entry("uses_local", """.local .align 4 .b8 array[256]; .reg .b64 %rd<8>; .reg .b32 %r<8>;
ld.param.u64 %rd1, [p]; cvta.to.global.u64 %rd2, %rd1; mov.u64 %rd4, array; mov.u32 %r1, %tid.x;
and.b32 %r2, %r1, 60; cvt.u64.u32 %rd5, %r2; add.u64 %rd5, %rd5, %rd4; st.local.u32 [%rd5], %r1;
ld.global.u32 %r3, [%rd2]; and.b32 %r3, %r3, 60; cvt.u64.u32 %rd6, %r3; add.u64 %rd6, %rd6, %rd4;
ld.local.u32 %r4, [%rd6]; st.global.u32 [%rd2], %r4;""")


def spilling(values=96, registers=32):
    """All values are loaded before the first is stored: more than there are registers."""
    lines = [".reg .b64 %%rd<4>; .reg .b32 %%r<%d>;" % values,
             "ld.param.u64 %rd1, [p]; cvta.to.global.u64 %rd2, %rd1;"]
    lines += ["ld.volatile.global.u32 %%r%d, [%%rd2+%d];" % (i, 4 * i) for i in range(values)]
    lines += ["st.volatile.global.u32 [%%rd2+%d], %%r%d;" % (4 * i, values - 1 - i) for i in range(values)]
    return entry("spills", "\n".join(lines), ".maxntid 128, 1, 1\n.maxnreg %d" % registers)


MMA = entry("multiplies", """.shared .align 16 .b8 tile[32768]; .reg .b64 %rd<8>; .reg .b32 %r<16>; .reg .f32 %f<8>;
ld.param.u64 %rd1, [p]; cvta.to.global.u64 %rd2, %rd1; mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 4;
mov.u32 %r3, tile; add.u32 %r3, %r3, %r2; cvt.u64.u32 %rd4, %r2; add.u64 %rd4, %rd4, %rd2;
cp.async.cg.shared.global [%r3], [%rd4], 16; cp.async.commit_group; cp.async.wait_group 0; bar.sync 0;
ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r3]; mov.f32 %f1, 0f00000000;
mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f2, %f3, %f4, %f5}, {%r4, %r5, %r6, %r7}, {%r4, %r5}, """
            """{%f1, %f1, %f1, %f1};
st.global.v4.f32 [%rd4], {%f2, %f3, %f4, %f5};""", ".maxntid 256, 1, 1")


class KernelReport(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def report(self, ptx, *options, exemptions="", check=True):
        """Exit code, output and rows of a report of the kernels in `ptx`."""
        rows = os.path.join(self.folder.name, "rows.json")
        command = [sys.executable, TOOL, *TOOLKIT, "--json", rows, *options]
        if check:
            command += ["--check", "--exemptions", self.path("exemptions", exemptions)]
        run = subprocess.run([*command, self.path("kernels.ptx", HEADER + ptx)], text=True, capture_output=True)
        with open(rows) as file:
            return run.returncode, run.stdout + run.stderr, json.load(file)

    def test_plain_kernels_pass(self):
        code, output, rows = self.report(PLAIN + MMA)
        self.assertIn(code, (0, 77), output)
        self.assertEqual(len(rows), 12)  # two kernels, six architectures
        self.assertEqual({row["arch"] for row in rows}, {80, 86, 89, 90, 100, 120})
        for row in rows:
            self.assertEqual((row["spill"], row["stack"]), (0, 0))
            self.assertLessEqual(row["registers"], 32)

    def test_instructions_are_counted(self):
        _, output, rows = self.report(MMA, check=False)
        if "SKIPPED" in output:
            self.skipTest("nvdisasm is missing")
        for row in rows:
            self.assertEqual((row["mma"], row["ldsm"], row["async"], row["local"]), (1, 1, 1, 0))
            self.assertEqual((row["stg"], row["ldg"], row["mufu"]), (1, 0, 0))

    def test_occupancy(self):
        _, _, rows = self.report(MMA + PLAIN, check=False)
        by_kernel = {(row["kernel"], row["arch"]): row for row in rows}
        # 32 KB and 1 KB of the system's: 4 blocks of 8 warps in 164 KB, 3 in 100 KB.
        self.assertEqual((by_kernel["multiplies", 80]["warps"], by_kernel["multiplies", 80]["bound"]), (32, "shared"))
        self.assertEqual((by_kernel["multiplies", 89]["warps"], by_kernel["multiplies", 89]["bound"]), (24, "shared"))
        # Few registers: as many warps as there are.
        self.assertEqual(by_kernel["plain", 80]["warps"], 64)
        self.assertEqual(by_kernel["plain", 89]["warps"], 48)

    def test_dynamic_shared_memory_of_a_profile_counts(self):
        profile = {"kernels": [{"name": "plain(unsigned long)", "dynamic_shared": 50 * 1024, "threads_per_block": 128}]}
        path = self.path("profile.json", json.dumps(profile))
        _, _, rows = self.report(PLAIN, "--profile", path, "--arch", "80", check=False)
        self.assertEqual([(row["warps"], row["dynamic_shared"]) for row in rows], [(12, 51200)])  # 3 x 51 KB

    def test_a_spill_fails(self):
        code, output, rows = self.report(spilling())
        self.assertEqual(code, 1, output)
        self.assertIn("FAILED: spills (kernels.ptx) on sm_80 spills", output)
        self.assertIn("FAILED: spills (kernels.ptx) on sm_89 spills", output)
        self.assertTrue(all(row["spill"] > 0 and row["registers"] <= 32 for row in rows))

    def test_local_memory_fails(self):
        code, output, _ = self.report(PLAIN + LOCAL)
        self.assertEqual(code, 1, output)
        self.assertIn("FAILED: uses_local (kernels.ptx) on sm_89 has", output)
        self.assertNotIn("FAILED: plain", output)

    def test_an_exemption_excuses_by_name(self):
        code, output, _ = self.report(LOCAL, exemptions="# why\nuses_l.*: a test\n")
        self.assertIn(code, (0, 77), output)
        code, output, _ = self.report(LOCAL + spilling(), exemptions="uses_local: a test\n")
        self.assertEqual(code, 1, output)
        self.assertIn("FAILED: spills", output)

    def test_an_exemption_that_excuses_nothing_fails(self):
        code, output, _ = self.report(PLAIN, exemptions="plain: it was worse once\n")
        self.assertEqual(code, 1, output)
        self.assertIn("the exemption of plain excuses nothing", output)

    def test_files_without_kernels_are_an_error(self):
        run = subprocess.run([sys.executable, TOOL, *TOOLKIT, self.path("empty.o", "no device code")], text=True,
                             capture_output=True)
        self.assertEqual(run.returncode, 1)
        self.assertIn("no kernel in 1 files", run.stderr)


if __name__ == "__main__":
    TOOL = sys.argv[1]
    if len(sys.argv) > 2:
        TOOLKIT = ["--toolkit", sys.argv[2]]
    unittest.main(argv=sys.argv[:1])
