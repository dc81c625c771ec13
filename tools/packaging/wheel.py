"""Writes a Python wheel (PEP 427) whose package carries a program: `qgrpo` becomes a command that runs it."""

import base64
import hashlib
import os
import stat
import time
import zipfile

LAUNCHER = '''"""qgrpo, a program; this package carries it. `qgrpo` on the command line is `python -m qgrpo`."""

import os
import sys

__version__ = "{version}"

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "qgrpo")


def main():
    os.execv(PROGRAM, [PROGRAM, *sys.argv[1:]])
'''

MAIN = '''from qgrpo import main

main()
'''

# The libraries of CUDA, by its major version: PyPI's names, and versions that a program of a toolkit can take.
# From 13 on cuBLAS has a numbering of its own within the same major version.
CUDA_WHEELS = {
    12: ("nvidia-cuda-runtime-cu12>={toolkit},<13", "nvidia-cublas-cu12>=12.4,<13"),
    13: ("nvidia-cuda-runtime>={toolkit},<14", "nvidia-cublas>=13.0,<14"),
}


def metadata(version, readme, toolkits=()):
    """METADATA; `toolkits`: "13.0.88" of each CUDA backend."""
    lines = [
        "Metadata-Version: 2.1", "Name: qgrpo", f"Version: {version}",
        "Summary: GRPO training of Qwen2.5 models in one C++/CUDA program, with no ML framework",
        "License: MIT", "Requires-Python: >=3.8",
        "Classifier: Environment :: Console", "Classifier: Environment :: GPU :: NVIDIA CUDA",
        "Classifier: License :: OSI Approved :: MIT License", "Classifier: Operating System :: POSIX :: Linux",
        "Classifier: Topic :: Scientific/Engineering :: Artificial Intelligence",
    ]
    for toolkit in toolkits:
        parts = toolkit.split(".")
        major = int(parts[0])
        lines.append(f"Provides-Extra: cuda{major}")
        for requirement in CUDA_WHEELS[major]:
            requirement = requirement.format(toolkit=".".join(parts[:2]))
            lines.append(f'Requires-Dist: {requirement}; extra == "cuda{major}"')
    lines += ["Description-Content-Type: text/markdown", "", readme]
    return "\n".join(lines)


def tree(folder):
    """{path below the folder: its content} of all its files."""
    found = {}
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = (file.read(), os.stat(path).st_mode & stat.S_IXUSR != 0)
    return found


def write_wheel(output, version, tag, root, epoch, toolkits=()):
    """The wheel of an installed tree: its bin and lib below the package, its licenses and README in dist-info.
    Returns the file's path. The same tree gives the same bytes."""
    info = f"qgrpo-{version}.dist-info"
    files = {
        "qgrpo/__init__.py": (LAUNCHER.format(version=version).encode(), False),
        "qgrpo/__main__.py": (MAIN.encode(), False),
    }
    documents = tree(os.path.join(root, "share/doc/qgrpo"))
    for part in ("bin", "lib"):
        for name, entry in tree(os.path.join(root, part)).items():
            files[f"qgrpo/{part}/{name}"] = entry
    for name, (content, _) in documents.items():
        if name == "LICENSE" or name.startswith("licenses/"):
            files[f"{info}/licenses/{name}"] = (content, False)
    readme = documents["README.md"][0].decode()
    files[f"{info}/METADATA"] = (metadata(version, readme, toolkits).encode(), False)
    files[f"{info}/WHEEL"] = (f"Wheel-Version: 1.0\nGenerator: qgrpo\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(), False)
    files[f"{info}/entry_points.txt"] = (b"[console_scripts]\nqgrpo = qgrpo:main\n", False)
    record = []
    for name, (content, _) in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(content)}\n")
    record.append(f"{info}/RECORD,,\n")
    files[f"{info}/RECORD"] = ("".join(record).encode(), False)

    path = os.path.join(output, f"qgrpo-{version}-{tag}.whl")
    date = time.gmtime(max(epoch, 315532800))[:6]  # zip knows nothing before 1980
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, (content, executable) in files.items():
            entry = zipfile.ZipInfo(name, date)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix: the mode below counts
            entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            archive.writestr(entry, content, compresslevel=9)
    return path
