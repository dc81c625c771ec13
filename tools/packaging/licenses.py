"""The licenses of what is carried, as Debian's packages have them."""

import os
import shutil
import subprocess

from elf import run


def package_of(path):
    """The Debian package of a file; its name may be older than the merge of / and /usr."""
    real = os.path.realpath(path)
    names = [path, real, os.path.join("/", os.path.relpath(real, "/usr")) if real.startswith("/usr/") else "/usr" + real]
    for name in names:
        result = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return result.stdout.split(": ")[0].split(",")[0].split(":")[0]
    raise SystemExit(f"tools/package: no Debian package has {path}: its license is not known")


def collect(files, folder, also=()):
    """Copies the copyright file of each file's package into `folder`, and writes libraries.txt: which file is
    of which package and version. `also`: packages whose code is a part of the program."""
    if shutil.which("dpkg-query") is None:
        raise SystemExit("tools/package: takes licenses from Debian's packages: run it on Debian or Ubuntu")
    os.makedirs(folder)
    packages = {}
    for file in files:
        packages.setdefault(package_of(file), []).append(os.path.basename(file))
    for package in also:
        packages.setdefault(package, ["a part of the program"])
    lines = []
    for package, names in sorted(packages.items()):
        version, source = run("dpkg-query", "-W", "-f=${Version}\t${source:Package}\n", package).splitlines()[0].split("\t")
        copyright_file = f"/usr/share/doc/{package}/copyright"
        if not os.path.exists(copyright_file):
            raise SystemExit(f"tools/package: {copyright_file} is not there (dpkg was told to leave out documentation?)")
        shutil.copyfile(copyright_file, os.path.join(folder, package + ".txt"))
        lines.append(f"{package} {version} (Debian source package {source}): {', '.join(sorted(names))}\n")
    with open(os.path.join(folder, "libraries.txt"), "w", encoding="utf-8") as file:
        file.writelines(lines)
    return len(packages)
