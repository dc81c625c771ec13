"""Runs a broken program where it can break nothing: no process and no file but its own.

A mutant may signal the wrong process or delete the wrong folder. It runs in its own process and mount namespaces,
with one writable folder. Where those are not allowed, isolated() is False, and no mutant may be made of what
signals or deletes.
"""

import os
import re
import resource
import shutil
import signal
import subprocess

DANGEROUS = re.compile(r"\bkill\(|\bremove_all\(|\bunlink\(|fs::remove\(|filesystem::remove\(|\brename\(")
MEMORY = 12 << 30
FILE = 1 << 30

INNER = 'mount --bind "$1" "$1" && mount -o remount,bind,ro / && shift && exec "$@"'


def wrapper(scratch):
    """What is put before a command, or None."""
    if not shutil.which("unshare"):
        return None
    for user in ([], ["--user", "--map-root-user"]):
        words = ["unshare", *user, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                 "sh", "-c", INNER, "sh", scratch]
        if subprocess.run(words + ["true"], capture_output=True).returncode == 0:
            return words
    return None


def _limits():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


class Runner:
    def __init__(self, scratch):
        self.scratch = os.path.abspath(scratch)
        os.makedirs(self.scratch, exist_ok=True)
        self.words = wrapper(self.scratch)

    def isolated(self):
        return self.words is not None

    def run(self, command, environment, limit_s):
        """(exit status, output); a status of None: it did not end in time."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        os.makedirs(self.scratch, exist_ok=True)
        environment = dict(environment, TMPDIR=self.scratch, HOME=self.scratch)
        process = subprocess.Popen((self.words or []) + command, cwd=self.scratch, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True, preexec_fn=_limits)
        try:
            output, _ = process.communicate(timeout=limit_s)
            return process.returncode, output.decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None, ""
