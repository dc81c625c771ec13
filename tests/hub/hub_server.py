#!/usr/bin/env python3
"""A small Hub for tests: what `qgrpo pull`, `qgrpo push` and Python's huggingface_hub ask of the real one.

Repositories live in memory. Prints its port on the first line and serves until its standard input ends.
Large files are answered by a redirect to another host name of the same server (localhost for 127.0.0.1), which
refuses a request that carries a token.

  POST /_test/repo    {"id", "files": {path: base64}, "private", "gated"}: a commit on main; "id" of a data set: datasets/ID
  POST /_test/faults  [{"match": part of the path, "method", "times", and one of:
                        "status": n | "cut": bytes sent before the connection ends | "corrupt": true |
                        "stall": seconds | "no_range": true | "retry_after": text (with status)}]
  GET  /_test/log     [{"method", "path", "range", "authorized", "host"}] since the last time it was asked for
"""
import argparse
import base64
import hashlib
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_test"
lock = threading.Lock()
repos = {}
objects = {}  # sha256 -> bytes
parts = {}  # (sha256, n) -> bytes
faults = []
log = []


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class File:
    def __init__(self, data, lfs):
        self.data, self.lfs = data, lfs
        self.sha256 = hashlib.sha256(data).hexdigest()
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(data)}\n"
        self.oid = git_sha1(pointer.encode() if lfs else data)
        self.etag = self.sha256 if lfs else self.oid


class Repo:
    def __init__(self, private=False, gated=False):
        self.private, self.gated = private, gated
        self.commits, self.refs = {}, {}
        self.commit({})

    def commit(self, files, branch="main"):
        merged = {**self.commits.get(self.refs.get(branch), {}), **files}
        text = repr((len(self.commits), sorted((p, f.etag) for p, f in merged.items())))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = merged
        self.refs[branch] = sha
        return sha

    def resolve(self, revision):
        return self.refs.get(revision, revision if revision in self.commits else None)


def is_lfs(size, sample):
    return size > args.lfs_above or b"\0" in sample


class Refuse(Exception):
    def __init__(self, status, code, message):
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", headers=None, cut=None):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers = {"Content-Type": "application/json", **(headers or {})}
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        self.wfile.flush()
        if cut is not None:
            self.close_connection = True
            self.connection.shutdown(2)

    def repo(self, name, write=False):
        repo = repos.get(name)
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.headers.get("Authorization") and not authorized:
            raise Refuse(401, "", "Invalid credentials in Authorization header")
        if write and not authorized:
            raise Refuse(401, "", "a token is needed")
        if repo is None or (repo.private and not authorized):
            raise Refuse(404 if authorized else 401, "RepoNotFound", "Repository not found")
        return repo

    def commit_of(self, repo, revision):
        sha = repo.resolve(unquote(revision))
        if sha is None:
            raise Refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def fault(self, path):
        with lock:
            for fault in faults:
                if fault["match"] in path and fault.get("method", self.command) == self.command and fault["times"] > 0:
                    fault["times"] -= 1
                    return fault
        return {}

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        if (self.headers.get("Transfer-Encoding") or "") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(length)
        split = urlsplit(self.path)
        path, query = split.path, parse_qs(split.query)
        host = (self.headers.get("Host") or "").split(":")[0]
        if not path.startswith("/_test/"):
            with lock:
                log.append({"method": self.command, "path": self.path, "range": self.headers.get("Range", ""),
                            "authorized": "Authorization" in self.headers, "host": host})
        fault = {} if path.startswith("/_test/") else self.fault(self.path)
        if "stall" in fault:
            time.sleep(fault["stall"])
        if "status" in fault:
            extra = {"Retry-After": fault["retry_after"]} if "retry_after" in fault else {}
            return self.reply(fault["status"], {"error": fault.get("error", "made to fail")}, extra)
        try:
            self.route(path, query, body, fault)
        except Refuse as refusal:
            self.reply(refusal.status, {"error": refusal.message},
                       {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message})

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def route(self, path, query, body, fault):
        if path.startswith("/_test/"):
            return self.control(path, body)
        # A data set's repository is one of the name datasets/ID.
        name = r"((?:datasets/)?(?:[^/]+/)?[^/]+)"
        path = re.sub(r"^/api/datasets/", "/api/models/datasets/", path)
        if path == "/api/whoami-v2":
            return self.reply(200, {"type": "user", "name": "tester", "orgs": [], "auth": {}})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        if m := re.fullmatch(rf"/api/models/{name}/tree/([^/]+)", path):
            return self.tree(m, query, fault)
        if m := re.fullmatch(rf"/api/models/{name}/preupload/([^/]+)", path):
            return self.preupload(m, json.loads(body))
        if m := re.fullmatch(rf"/api/models/{name}/commit/([^/]+)", path):
            return self.commit(m, body)
        if m := re.fullmatch(rf"/api/models/{name}/revision/([^/]+)", path):
            return self.info(m[1], m[2])
        if m := re.fullmatch(r"/api/models/((?:datasets/)?[^/]+/[^/]+)", path):
            return self.info(m[1], "main")
        if m := re.fullmatch(rf"/{name}\.git/info/lfs/objects/batch", path):
            return self.batch(m, json.loads(body))
        if m := re.fullmatch(rf"/{name}/resolve/([^/]+)/(.+)", path):
            return self.resolve_file(m, fault)
        if m := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            if "Authorization" in self.headers:
                raise Refuse(400, "", "a token came to a foreign host")
            return self.content(objects[m[1]], m[1], fault)
        if m := re.fullmatch(r"/upload/([0-9a-f]{64})", path):
            return self.uploaded(m[1], body)
        if m := re.fullmatch(r"/part/([0-9a-f]{64})/(\d+)", path):
            with lock:
                parts[m[1], int(m[2])] = body
            return self.reply(200, b"", {"ETag": '"%s"' % hashlib.md5(body).hexdigest()})
        if m := re.fullmatch(r"/complete/([0-9a-f]{64})", path):
            wanted = json.loads(body)["parts"]
            pieces = [parts[m[1], p["partNumber"]] for p in wanted]
            for piece, p in zip(pieces, wanted):
                if p["etag"].strip('"') != hashlib.md5(piece).hexdigest():
                    raise Refuse(400, "", "a part's ETag is wrong")
            return self.uploaded(m[1], b"".join(pieces))
        if m := re.fullmatch(r"/verify/([0-9a-f]{64})", path):
            if len(objects.get(m[1], b"")) != json.loads(body)["size"]:
                raise Refuse(400, "", "not the content that was announced")
            return self.reply(200, {})
        raise Refuse(404, "", f"nothing at {path}")

    def control(self, path, body):
        global faults
        if path == "/_test/log":
            with lock:
                copy = list(log)
                log.clear()
            return self.reply(200, copy)
        given = json.loads(body)
        with lock:
            if path == "/_test/faults":
                faults = [{"times": 1, **fault} for fault in given]
                return self.reply(200, {})
            repo = repos.setdefault(given["id"], Repo())
            repo.private, repo.gated = given.get("private", False), given.get("gated", False)
            files = {}
            for name, content in given["files"].items():
                data = base64.b64decode(content)
                files[name] = File(data, is_lfs(len(data), data[:512]))
                objects[files[name].sha256] = data
            return self.reply(200, {"sha": repo.commit(files, given.get("branch", "main"))})

    def create(self, given):
        name = "/".join(filter(None, [given.get("organization"), given["name"]]))
        if "Authorization" not in self.headers:
            raise Refuse(401, "", "a token is needed")
        if name in repos:
            raise Refuse(409, "", "You already created this model repo")
        repos[name] = Repo(private=bool(given.get("private")))
        self.reply(200, {"url": f"{self.origin()}/{name}", "name": name, "id": name})

    def origin(self, host=None):
        return f"http://{host or self.headers['Host'].split(':')[0]}:{args.port}"

    def info(self, name, revision):
        repo = self.repo(name)
        sha = self.commit_of(repo, revision)
        self.reply(200, {"_id": "0", "id": name, "modelId": name, "sha": sha, "private": repo.private,
                         "gated": "manual" if repo.gated else False, "disabled": False, "downloads": 0, "likes": 0,
                         "tags": [], "siblings": [{"rfilename": p} for p in repo.commits[sha]]})

    def tree(self, m, query, fault):
        repo = self.repo(m[1])
        files = sorted(repo.commits[self.commit_of(repo, m[2])].items())
        start = int(query.get("cursor", ["0"])[0])
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "a-folder"}] if start == 0 else []
        for path, file in files[start:start + args.page]:
            entry = {"type": "file", "oid": file.oid, "size": len(file.data), "path": path}
            if file.lfs:
                entry["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": 130}
            entries.append({**entry, **fault.get("entry", {})})
        headers = {}
        if start + args.page < len(files):
            api = "" if m[1].startswith("datasets/") else "models/"
            where = f"{self.origin()}/api/{api}{m[1]}/tree/{m[2]}?recursive=true&cursor={start + args.page}"
            headers["Link"] = f'<{where}>; rel="next"'
        self.reply(200, entries, headers)

    def resolve_file(self, m, fault):
        repo = self.repo(m[1])
        sha = self.commit_of(repo, m[2])
        if repo.gated and "Authorization" not in self.headers:
            raise Refuse(401, "GatedRepo", f"Access to model {m[1]} is restricted. You must be authenticated.")
        file = repo.commits[sha].get(unquote(m[3]))
        if file is None:
            raise Refuse(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": sha}
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data)),
                        "Location": f"{self.origin('localhost')}/cdn/{file.sha256}", "ETag": f'"{file.oid}"'}
            return self.reply(302, b"Found", headers)
        self.content(file.data, file.etag, fault, headers)

    def content(self, data, etag, fault, headers=None):
        headers = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes", **(headers or {})}
        if fault.get("corrupt"):
            data = bytes([data[0] ^ 1]) + data[1:]
        status = 200
        if (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) and not fault.get("no_range"):
            start = int(asked[1])
            if start >= len(data):
                return self.reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        headers["Content-Length"] = str(len(data))
        self.reply(status, data, headers, fault.get("cut"))

    def preupload(self, m, given):
        files = self.repo(m[1], write=True)
        files = files.commits[self.commit_of(files, m[2])]
        out = []
        for entry in given["files"]:
            lfs = is_lfs(entry["size"], base64.b64decode(entry["sample"]))
            old = files.get(entry["path"])
            out.append({"path": entry["path"], "uploadMode": "lfs" if lfs else "regular",
                        "shouldIgnore": entry["path"].endswith(".ignored"), "oid": old.etag if old else None})
        self.reply(200, {"files": out})

    def batch(self, m, given):
        self.repo(m[1], write=True)
        out = []
        for entry in given["objects"]:
            oid, size = entry["oid"], entry["size"]
            answer = {"oid": oid, "size": size}
            if oid not in objects:
                here = self.origin()
                verify = {"href": f"{here}/verify/{oid}", "header": {}}
                if "multipart" in given["transfers"] and size > args.part_bytes:
                    count = -(-size // args.part_bytes)
                    header = {"chunk_size": str(args.part_bytes)}
                    header |= {str(n): f"{here}/part/{oid}/{n}" for n in range(1, count + 1)}
                    upload = {"href": f"{here}/complete/{oid}", "header": header}
                else:
                    upload = {"href": f"{here}/upload/{oid}"}
                answer["actions"] = {"upload": upload, "verify": verify}
            out.append(answer)
        self.reply(200, {"transfer": "basic", "objects": out})

    def uploaded(self, oid, data):
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refuse(400, "", "the content has another checksum")
        with lock:
            objects[oid] = data
        self.reply(200, {})

    def commit(self, m, body):
        repo = self.repo(m[1], write=True)
        branch = unquote(m[2])
        self.commit_of(repo, m[2])
        files = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif entry["key"] == "lfsFile":
                if value["oid"] not in objects:
                    raise Refuse(400, "", f"the content of {value['path']} was never sent")
                files[value["path"]] = File(objects[value["oid"]], True)
        with lock:
            sha = repo.commit(files, branch)
        url = f"{self.origin()}/{m[1]}/commit/{sha}"
        self.reply(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})


parser = argparse.ArgumentParser()
parser.add_argument("--lfs-above", type=int, default=1000, help="bytes from which a file is LFS")
parser.add_argument("--part-bytes", type=int, default=100000, help="of a multipart upload")
parser.add_argument("--page", type=int, default=3, help="files on a page of a listing")
args = parser.parse_args()
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
args.port = server.server_address[1]
threading.Thread(target=server.serve_forever, daemon=True).start()
print(args.port, flush=True)
sys.stdin.read()
