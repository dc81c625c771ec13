"""What ELF files need and say, as readelf and the dynamic linker see it."""

import os
import re
import subprocess

# What Debian's and Ubuntu's base system has: glibc, libstdc++6, libgcc-s1. Everything else is carried.
BASE = re.compile(r"(ld-linux-x86-64|libc|libm|libdl|libpthread|librt|libresolv|libutil|libanl|libstdc\+\+|libgcc_s)\.so\.\d+$")
# CUDA's libraries are NVIDIA's to give away, and large; the driver's belong to the machine.
CUDA = re.compile(r"lib(cuda|cudart|cublas|cublasLt|nv.*)\.so\.\d+$")


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if result.returncode != 0:
        raise SystemExit(f"tools/package: {' '.join(command)} failed: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def dynamic(path, tag):
    """The values of a tag of the dynamic section: NEEDED, RPATH, RUNPATH, SONAME."""
    text = run("readelf", "-d", "--wide", path)
    return re.findall(r"\(%s\)[^\[]*\[([^\]]*)\]" % tag, text)


def highest_version(paths, prefix):
    """The highest version that the files take of a library, as of GLIBC_2.34: (2, 34)."""
    highest = ()
    for path in paths:
        for name in re.findall(r"Name: %s_([0-9.]+)\b" % prefix, run("readelf", "-V", "--wide", path)):
            highest = max(highest, tuple(int(part) for part in name.split(".")))
    return highest


def who_needs(paths, prefix, version):
    """The names of those that take just this version."""
    return [os.path.basename(path) for path in paths if highest_version([path], prefix) == version]


def resolve(path):
    """{soname: file} of everything that the dynamic linker would load for a file."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
    found = {}
    for line in run("ldd", path, env=environment).splitlines():
        match = re.match(r"\s*(\S+) => (/\S+)", line)
        if match:
            found[match[1]] = match[2]
    return found


def closure(paths):
    """{soname: file} of the libraries to carry for these files: neither base system's nor CUDA's."""
    found = {}
    for start in paths:
        places = resolve(start)
        queue = [start]
        for path in queue:
            for name in dynamic(path, "NEEDED"):
                if name in found or BASE.match(name) or CUDA.match(name):
                    continue
                if name not in places:
                    raise SystemExit(f"tools/package: {os.path.basename(path)} needs {name}, which is not on this machine")
                found[name] = places[name]
                queue.append(places[name])
    return found


def set_run_path(path, new):
    """Writes a shorter run path in the place of the one that the file has."""
    old = (dynamic(path, "RUNPATH") + dynamic(path, "RPATH") + [""])[0]
    if old == new:
        return
    with open(path, "rb") as file:
        content = file.read()
    text = old.encode() + b"\0"
    if not old or len(new) > len(old) or content.count(text) != 1:
        raise SystemExit(f"tools/package: {path}: the run path '{old}' cannot become '{new}'")
    with open(path, "wb") as file:
        file.write(content.replace(text, new.encode().ljust(len(text), b"\0")))
