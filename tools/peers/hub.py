#!/usr/bin/env python3
"""qgrpo pull and push against Python's huggingface_hub: the same server, each reads what the other wrote.

Usage: hub.py QGRPO. Needs: huggingface_hub.
"""
import filecmp
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(qgrpo):
    work = Path(tempfile.mkdtemp(prefix="qgrpo-peer-hub-"))
    server = subprocess.Popen([sys.executable, str(HERE.parent.parent / "tests/hub/hub_server.py")],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    environment = {"HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1",
                   "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    os.environ.update(environment)  # before huggingface_hub reads them
    from huggingface_hub import HfApi, get_cached_repo_tree, hf_hub_download, scan_cache_dir, snapshot_download
    from huggingface_hub.utils import EntryNotFoundError

    def run(*arguments, cache, **more):
        done = subprocess.run([qgrpo, *arguments], env={**os.environ, "HF_HUB_CACHE": str(cache), **more},
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def same(a, b):
        names = sorted(str(p.relative_to(a)) for p in Path(a).rglob("*") if p.is_file())
        assert names == sorted(str(p.relative_to(b)) for p in Path(b).rglob("*") if p.is_file()), (names, b)
        assert all(filecmp.cmp(Path(a) / n, Path(b) / n, shallow=False) for n in names)
        return len(names)

    def requests():
        with urllib.request.urlopen(endpoint + "/_test/log") as answer:
            return json.loads(answer.read())

    try:
        source = work / "source"
        (source / "sub folder").mkdir(parents=True)
        noise = random.Random(1)
        for name, size in {"config.json": 40, "model.safetensors": 350000, "sub folder/ä.bin": 3000, "empty": 0}.items():
            (source / name).write_bytes(noise.randbytes(size))

        # Python pushes, both pull: equal files, and byte for byte the same cache.
        api = HfApi()
        api.create_repo("me/python", private=True)
        api.upload_folder(repo_id="me/python", folder_path=source)
        ours, theirs = work / "ours", work / "theirs"
        mine = run("pull", "me/python", cache=ours)
        other = snapshot_download("me/python", cache_dir=theirs)
        count = same(mine, other)
        for part in ("blobs", "snapshots", "refs"):
            a, b = (c / "models--me--python" / part for c in (ours, theirs))
            assert sorted(os.listdir(a)) == sorted(os.listdir(b)), (part, os.listdir(a), os.listdir(b))
        links = [p for p in Path(mine).rglob("*") if p.is_symlink()]
        assert [os.readlink(p) for p in links] == [os.readlink(Path(other) / p.relative_to(mine)) for p in links]
        print(f"  {count} files that Python pushed: both clients have them, with the same names of blobs and links")

        # Each reads the other's cache, without a download and offline.
        requests()
        assert snapshot_download("me/python", cache_dir=ours) == mine
        assert hf_hub_download("me/python", "config.json", cache_dir=ours) == mine + "/config.json"
        run("pull", "me/python", cache=theirs)
        assert not [r for r in requests() if "/cdn/" in r["path"] or (r["method"] == "GET" and "/resolve/" in r["path"])]
        assert snapshot_download("me/python", cache_dir=ours, local_files_only=True) == mine
        assert run("pull", "me/python", cache=theirs, HF_HUB_OFFLINE="1") == other
        assert {f.path for f in get_cached_repo_tree("me/python", cache_dir=ours)} >= {"config.json", "empty"}
        info = scan_cache_dir(ours)
        assert not info.warnings and [r.repo_id for r in info.repos] == ["me/python"], info
        print("  each client uses the other's cache: no download, also offline; scan_cache_dir has no complaint")

        # qgrpo pushes, Python pulls; a second push of a change makes one commit of one file.
        run("push", str(source), "me/qgrpo", "--private", cache=ours)
        back = snapshot_download("me/qgrpo", cache_dir=theirs)
        same(source, back)
        assert api.repo_info("me/qgrpo").private
        (source / "config.json").write_text("{}")
        url = run("push", str(source), "me/qgrpo", "--message", "a change", cache=ours)
        assert api.repo_info("me/qgrpo").sha == url.rsplit("/", 1)[1]
        same(source, snapshot_download("me/qgrpo", cache_dir=theirs))
        try:
            hf_hub_download("me/qgrpo", "nothing", cache_dir=theirs)
            raise AssertionError("a file that is not there was found")
        except EntryNotFoundError:
            pass
        large = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
        assert (theirs / "models--me--qgrpo/blobs" / large).is_file()
        print("  what qgrpo pushed (one file in parts): Python has it, byte for byte")
    finally:
        server.stdin.close()
        server.wait()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
