"""Answer the requests of an ``LfsHost``."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.faults import Fault, Request
from benchmarks.git_backend import run_backend
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS
from git_theta_ext.protocol.lfs.batch import MEDIA_TYPE as MEDIA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.lfs_host import LfsHost

_BATCH = re.compile(r"(/.+?)(?:\.git)?/info/lfs/objects/batch")
_LOCKS = re.compile(r"/.+?(?:\.git)?/info/lfs/locks((?:/verify|/[^/]+/unlock)?)")
_OBJECT = re.compile(r"/objects/([0-9a-f]{64})(?:/(\d+))?")
_PIECE = 1 << 16


class Handler(BaseHTTPRequestHandler):
    """A request of a client."""

    site: LfsHost
    protocol_version = "HTTP/1.1"
    request_log: Request
    active: Fault | None

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _any(self) -> None:
        path = urlsplit(self.path).path
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_log = Request(self.command, path, headers)
        self.site.log.append(self.request_log)
        self.active = self.site.fault(f"{self.command} {path}")
        if self.active and self.active.silent:
            self.site.closing.wait(self.active.silent)
        if self.active and self.active.status:
            self._drain()
            self._answer(self.active.status, b'{"message": "a fault"}', {"Content-Type": MEDIA, **self.active.headers})
            return
        if match := _BATCH.fullmatch(path):
            self._batch(match[1])
        elif match := _OBJECT.fullmatch(path):
            {"PUT": self._put, "GET": self._get, "POST": self._complete}[self.command](match[1], match[2])
        elif path == "/verify":
            self._verify()
        elif match := _LOCKS.fullmatch(path):
            self._locks(match[1])
        elif "/info/lfs/" in path:
            self._drain()
            self._answer(404, b'{"message": "Not found"}')
        else:
            self._git()

    do_GET = do_POST = do_PUT = _any  # noqa: N815 - names of the standard library

    def _body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.request_log.up += size
                self.site.delay(size)
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read(min(left, _PIECE))):
            left -= len(piece)
            self.request_log.up += len(piece)
            self.site.delay(len(piece))
            if self.active and self.active.cut_up is not None and self.request_log.up >= self.active.cut_up:
                self.connection.close()
                raise ConnectionAbortedError
            yield piece

    def _drain(self) -> bytes:
        return b"".join(self._body())

    def _answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.request_log.status = status
        self.send_response(status)
        for name, value in (headers or {"Content-Type": MEDIA}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.active and self.active.corrupt and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if self.active and self.active.cut_down is not None:
            self._send(data[: self.active.cut_down])
            self.close_connection = True
            self.connection.shutdown(2)
            return
        step = max(1, -(-len(data) // 8)) if self.active and self.active.slow else max(1, len(data))
        for start in range(0, len(data), step):
            if self.active:
                time.sleep(self.active.slow)
            self._send(data[start : start + step])

    def _send(self, data: bytes) -> None:
        self.request_log.down += len(data)  # first, for a client that has the data may look at the log
        self.wfile.write(data)

    def _known(self) -> bool:
        if self.site.user is None:
            return True
        name, password = self._sent()
        return (name, password) == self.site.user or self.site.others.get(name) == password

    def _sent(self) -> tuple[str, str]:
        """Return the user name and the password of the request."""
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        name, _, password = base64.b64decode(value).decode().partition(":") if kind == "Basic" else ("", "", "")
        return name, password

    def _deny(self) -> None:
        self._drain()
        self._answer(401, b'{"message": "who are you?"}', {"WWW-Authenticate": 'Basic realm="models"'})

    def _batch(self, _: str) -> None:
        if not self._known():
            self._deny()
            return
        asked = json.loads(self._drain())
        if len(asked["objects"]) > MAX_OBJECTS or MEDIA not in self.headers.get("Accept", ""):
            self._answer(422, b'{"message": "not a valid request"}')
            return
        multipart = self.site.part is not None and asked["operation"] == "upload"
        objects = [self._object(asked["operation"], one, multipart=multipart) for one in asked["objects"]]
        answer = {"transfer": "multipart" if multipart else "basic", "objects": objects, "hash_algo": "sha256"}
        self._answer(200, json.dumps(answer).encode())

    def _locks(self, place: str) -> None:
        if not self._known():
            self._deny()
            return
        body = self._drain()
        posts_json = self.command == "GET" or MEDIA in self.headers.get("Content-Type", "")
        if MEDIA not in self.headers.get("Accept", "") or not posts_json or (self.command == "GET") != (not body):
            self._answer(406, b'{"message": "not a valid request"}')
            return
        query = urlsplit(self.path).query
        user = self._sent()[0] or "anonymous"
        with self.site.lock:
            status, answer = self.site.locks.respond(self.command, place, query, body, user)
        self._answer(status, json.dumps(answer).encode())

    def _object(self, operation: str, one: dict[str, object], *, multipart: bool) -> dict[str, object]:
        oid, size = str(one["oid"]), int(str(one["size"]))
        path = self.site.objects / oid
        there = path.exists() and path.stat().st_size == size
        if operation == "download" and not there:
            return {**one, "error": {"code": 404, "message": "Object does not exist"}}
        if operation == "upload" and there:
            return one
        base = self.site.url
        header = {"Authorization": self.site.token()}
        action: dict[str, object] = {"href": f"{base}/objects/{oid}", "header": header, "expires_in": 900}
        if multipart and self.site.part is not None:
            count = max(1, -(-size // self.site.part))
            parts = {str(n): f"{base}/objects/{oid}/{n}" for n in range(1, count + 1)}
            action["header"] = {"chunk_size": str(self.site.part), **parts}
        actions = {operation: action}
        if operation == "upload":
            actions["verify"] = {"href": f"{base}/verify", "header": header}
        return {**one, "authenticated": True, "actions": actions}

    def _allowed(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return token in self.site.tokens

    def _put(self, oid: str, part: str | None) -> None:
        if part is None and not self._allowed():
            self._drain()
            self._answer(403, b'{"message": "expired"}')
            return
        temporary = self.site.objects / f"{oid}.{part or os.urandom(4).hex()}.tmp"
        digest = hashlib.sha256()
        with temporary.open("wb") as file:
            for piece in self._body():
                digest.update(piece)
                file.write(piece)
        if part is not None:
            self._answer(200, b"", {"ETag": f'"{digest.hexdigest()[:16]}"'})
        elif digest.hexdigest() == oid:
            temporary.rename(self.site.objects / oid)
            self._answer(200)
        else:
            temporary.unlink()
            self._answer(422, b'{"message": "wrong bytes"}')

    def _complete(self, oid: str, _: str | None) -> None:
        parts = json.loads(self._drain())["parts"]
        files = [self.site.objects / f"{oid}.{part['partNumber']}.tmp" for part in parts]
        data = b"".join(path.read_bytes() for path in files)
        good = hashlib.sha256(data).hexdigest() == oid and all(part["etag"] for part in parts)
        if good:
            (self.site.objects / oid).write_bytes(data)
        for path in files:
            path.unlink()
        self._answer(200 if good else 422)

    def _get(self, oid: str, _: str | None) -> None:
        path = self.site.objects / oid
        if not self._allowed():
            self._answer(401, b'{"message": "expired"}')
            return
        if not path.exists():
            self._answer(404)
            return
        data, octets = self.site.object_bytes(path), {"Content-Type": "application/octet-stream"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and self.site.ranges:
            start, end = int(match[1]), min(len(data), int(match[2] or len(data)) + 1)
            if start >= len(data):
                self._answer(416)
                return
            octets["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            self._answer(206, data[start:end], octets)
            return
        self._answer(200, data, octets)

    def _verify(self) -> None:
        asked = json.loads(self._drain())
        path = self.site.objects / asked["oid"]
        if not self._allowed() and self.site.part is None:
            self._answer(403)
        elif path.exists() and path.stat().st_size == asked["size"]:
            self.site.verified.add(asked["oid"])
            self._answer(200)
        else:
            self._answer(404)

    def _git(self) -> None:
        if not self._known():
            self._deny()
            return
        status, fields, body = run_backend(self.site.root / "git", self.command, self.path, self.headers, self._drain())
        self._answer(status, body, fields)
