"""A stand-in for the Hugging Face hub and Civitai: serves the folders OWNER/NAME below a folder.

Speaks as the real ones do: files by redirect to a delivery network with signed links, their facts
on the redirect, ranges, a repository's commit and tree, and the answers to what is gated, missing
or unknown. It misbehaves on demand. As a program:

    python tests/support/hub.py FOLDER HOST PORT
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = b"<!DOCTYPE html><title>Log in</title>"
BAD_TOKEN = "Invalid credentials in Authorization header"


def safetensors(size: int, seed: int = 0) -> bytes:
    """Make a valid safetensors file of exactly so many bytes; `seed` changes its content."""
    length = size
    while True:
        tensor = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
        header = json.dumps({"t": tensor}).encode()
        if 8 + len(header) + length <= size:
            break
        length = size - 8 - len(header)
    header += b" " * (size - 8 - len(header) - length)
    block = hashlib.sha256(str(seed).encode()).digest() * 32768
    data = (block * (length // len(block) + 1))[:length]
    return len(header).to_bytes(8, "little") + header + data


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came in."""

    path: str
    authorization: str | None
    byte_range: str | None
    is_cdn: bool


@dataclass(kw_only=True)
class Hub:
    """What the stand-in has and how it misbehaves, by `OWNER/NAME/path` or `OWNER/NAME`.

    `served` lists what was sent: path, first byte, number of bytes that really went out.
    """

    folder: Path
    gated: dict[str, str] = field(default_factory=dict)
    """Repositories that want this token."""
    known_tokens: set[str] | None = None
    """Any other token is refused, for whatever it asks."""
    cut: dict[str, list[int]] = field(default_factory=dict)
    """Files whose transfers end early, after so many bytes: one number for each transfer."""
    damaged: set[str] = field(default_factory=set)
    """Files of which other bytes are sent than were announced."""
    announced_sha256: dict[str, str | None] = field(default_factory=dict)
    announced_size: dict[str, int] = field(default_factory=dict)
    answers: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    """Statuses and headers that are answered in turn, by a part of the path, before it behaves."""
    stalls: dict[str, int] = field(default_factory=dict)
    """Files whose next transfers, so many, send nothing for a long time."""
    refuse_after: dict[str, int] = field(default_factory=dict)
    """Files of which no more is given once so many bytes have gone out."""
    pages: set[str] = field(default_factory=set)
    """Files in whose place a web page comes."""
    without_ranges: set[str] = field(default_factory=set)
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Files that are redirected to this address."""
    civitai: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Versions of models by number: `files` as the API has them, each with a `path` here."""
    civitai_token: str | None = None
    links_valid_for: int | None = None
    """So many requests with one signed link are answered, then 403."""
    max_at_once: int | None = None
    """More transfers than these are answered 503."""
    together: threading.Barrier | None = None
    """Each transfer waits here for the others."""
    bytes_per_s: int | None = None
    tls: ssl.SSLContext | None = None
    one_port: bool = False
    """The delivery network is below /cdn, for rules that trust one address."""
    url: str = ""
    cdn_url: str = ""
    served: list[tuple[str, int, int]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    links: dict[str, int] = field(default_factory=dict)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, path: str, content: bytes) -> str:
        """Put a file there; return its SHA-256."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def sent(self, path: str) -> int:
        """Count the bytes of a file that went out, first bytes that tell its size left out."""
        deadline = time.monotonic() + 5
        while self.at_once and time.monotonic() < deadline:
            time.sleep(0.01)  # the client may know it before the server does
        return self.sent_so_far(path)

    def all_sent(self) -> int:
        """Count the bytes of all files that went out."""
        return sum(self.sent(path) for path in {name for name, _, _ in list(self.served)})

    def sent_so_far(self, path: str) -> int:
        """Count those of finished transfers, while others go on."""
        return sum(count for name, _, count in list(self.served) if name == path and count > 1)

    @contextmanager
    def running(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[Hub]:
        """Serve until the block ends."""
        servers = [_Server((host, port), self, is_cdn=False), _Server((host, 0), self, is_cdn=True)]
        if self.tls:
            for server in servers:
                server.socket = self.tls.wrap_socket(server.socket, server_side=True)
        scheme = "https" if self.tls else "http"
        self.url, self.cdn_url = (f"{scheme}://{host}:{s.server_address[1]}" for s in servers)
        if self.one_port:
            self.cdn_url = f"{self.url}/cdn"
        threads = [threading.Thread(target=s.serve_forever, args=(0.05,)) for s in servers]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for server in servers:
                server.shutdown()
            for thread in threads:
                thread.join()
            for server in servers:
                server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, address: tuple[str, int], hub: Hub, *, is_cdn: bool) -> None:
        super().__init__(address, _Handler)
        self.hub = hub
        self.is_cdn = is_cdn

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: _Server

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        headers = self.headers
        is_cdn = self.server.is_cdn or path.startswith("cdn/")
        path = path.removeprefix("cdn/")
        self.hub.asked.append(
            Asked(self.path, headers.get("Authorization"), headers.get("Range"), is_cdn)
        )
        for part, answers in self.hub.answers.items():
            if part in f"{'cdn:' if is_cdn else ''}{path}" and answers:
                status, more = answers.pop(0)
                self._send(status, b"", more)
                return
        token = (headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and self.hub.known_tokens is not None and token not in self.hub.known_tokens:
            self._send(401, b"", {"X-Error-Message": BAD_TOKEN})
        elif is_cdn:
            self._cdn(path)
        elif path.startswith(("api/v1/model-versions/", "api/download/models/", "login")):
            self._civitai(path.split("/"), token)
        else:
            self._hub_answer(path.split("/"))

    def _hub_answer(self, parts: list[str]) -> None:
        api = parts[0] == "api"
        owner_and_name = "/".join(parts[2:4] if api else parts[0:2])
        rest = parts[4:] if api else parts[2:]
        root = self.hub.folder / owner_and_name
        if not root.is_dir():
            self._refuse(401 if not self.headers.get("Authorization") else 404, "RepoNotFound")
        elif (token := self.hub.gated.get(owner_and_name)) and not self._has(token):
            self._refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        elif len(rest) > 1 and rest[1] not in {COMMIT, "main"}:
            self._refuse(404, "RevisionNotFound")
        elif api:
            self._api(root, rest)
        else:
            self._file(owner_and_name, root, "/".join(rest[2:]))

    def _has(self, token: str) -> bool:
        return self.headers.get("Authorization") == f"Bearer {token}"

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _api(self, root: Path, rest: list[str]) -> None:
        if rest[:1] != ["tree"]:
            self._json({"id": root.name, "sha": COMMIT, "siblings": []})
            return
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        listed = files[start : start + 2]
        more = {}
        if start + 2 < len(files):
            here = f"{self.hub.url}{urlsplit(self.path).path}"
            more["Link"] = f'<{here}?recursive=true&cursor={start + 2}>; rel="next"'
        self._json([_listed(root, path) for path in listed], more)

    def _json(self, body: object, headers: Mapping[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        self._send(200, json.dumps(body).encode(), {**kind, **(headers or {})})

    def _file(self, owner_and_name: str, root: Path, name: str) -> None:
        path = root / name
        if not path.is_file():
            self._refuse(404, "EntryNotFound")
            return
        key = f"{owner_and_name}/{name}"
        size = self.hub.announced_size.get(key, path.stat().st_size)
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(size),
            "Location": self.hub.elsewhere.get(key) or self._link(key),
        }
        digest = self.hub.announced_sha256.get(key, _sha256(path))
        if digest:
            headers["X-Linked-Etag"] = f'"{digest}"'
        self._send(302, b"Found", headers)

    def _link(self, key: str) -> str:
        signature = f"{len(self.hub.links)}-secret"
        self.hub.links[signature] = self.hub.links_valid_for or sys.maxsize
        return f"{self.hub.cdn_url}/{quote(key)}?X-Amz-Signature={signature}"

    def _cdn(self, key: str) -> None:
        path = self.hub.folder / key
        signature = parse_qs(urlsplit(self.path).query).get("X-Amz-Signature", [""])[0]
        if self.headers.get("Authorization") and not self.hub.one_port:
            self._send(400, b"<Error>Missing x-amz-content-sha256</Error>", {})
        elif self.hub.links.get(signature, 0) <= 0:
            self._send(403, b"<Error>AccessDenied</Error>", {"Content-Type": "application/xml"})
        elif self._is_busy(key):
            self._send(503, b"", {})
        elif key in self.hub.pages:
            self._send(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        else:
            self.hub.links[signature] -= 1
            self._content(path, key)

    def _is_busy(self, key: str) -> bool:
        most, enough = self.hub.max_at_once, self.hub.refuse_after.get(key, 0)
        return bool(
            (most and self.hub.at_once >= most) or (enough and self.hub.sent_so_far(key) >= enough)
        )

    def _civitai(self, parts: list[str], token: str) -> None:
        if parts[0] == "login":
            self._send(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
            return
        version = self.hub.civitai.get(parts[3])
        if version is None:
            self._json({"error": "Model not found"})
        elif parts[1] == "v1":
            self._json(version)
        elif self.hub.civitai_token and token != self.hub.civitai_token:
            self._send(307, b"", {"Location": "/login?reason=download-auth"})
        else:
            wanted = parse_qs(urlsplit(self.path).query).get("fileId", [""])[0]
            file = next(f for f in version["files"] if not wanted or str(f["id"]) == wanted)
            self._send(307, b"", {"Location": self._link(file["path"])})

    def _content(self, path: Path, key: str) -> None:
        size = path.stat().st_size
        headers = {"ETag": f'"{_sha256(path)}"'}
        first, last = 0, size - 1
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status = 200
        if asked and key not in self.hub.without_ranges:
            first, last = int(asked[1]), min(int(asked[2] or last), last)
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            status = 206
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if self.command != "HEAD":
            self._transfer(path, key, first, last - first + 1)

    def _transfer(self, path: Path, key: str, first: int, count: int) -> None:
        if self.hub.together and count > 1:
            self.hub.together.wait(20)
        limits = self.hub.cut.get(key, []) if count > 1 else []
        wanted = min(limits.pop(0), count) if limits else count
        # A byte that tells the size has come before this knows that it is sent.
        counts = int(count > 1)
        with self.hub.lock:
            self.hub.at_once += counts
            self.hub.most_at_once = max(self.hub.most_at_once, self.hub.at_once)
        self.wfile.flush()
        sent = 0
        if count > 1 and self.hub.stalls.get(key, 0) > 0:
            self.hub.stalls[key] -= 1
            time.sleep(3)
        try:
            with suppress(OSError), path.open("rb") as file:  # the client was killed
                for block in _blocks(first, wanted, self.hub.bytes_per_s):
                    if key in self.hub.damaged:
                        sent += self._send_wrong(file.fileno(), *block)
                    else:
                        sent += self._send_file(file.fileno(), *block)
        finally:
            with self.hub.lock:
                self.hub.at_once -= counts
                self.hub.served.append((key, first, sent))
        if sent < count:
            self.close_connection = True

    def _send_file(self, file: int, start: int, count: int) -> int:
        done = 0
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.sendall(os.pread(file, count, start))
            return count
        while done < count:
            sent = os.sendfile(self.connection.fileno(), file, start + done, count - done)
            if not sent:
                break
            done += sent
        return done

    def _send_wrong(self, file: int, start: int, count: int) -> int:
        """Send the file's bytes, all but its first 4096 changed."""
        content = bytearray(os.pread(file, count, start))
        for at in range(max(0, 4096 - start), len(content), 1000):
            content[at] ^= 255
        self.connection.sendall(content)
        return count

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _blocks(first: int, count: int, bytes_per_s: int | None) -> Iterator[tuple[int, int]]:
    """Yield what to send next; as slowly as is wanted."""
    step = max(1, bytes_per_s // 20) if bytes_per_s else 4 << 20
    for start in range(first, first + count, step):
        yield start, min(step, first + count - start)
        if bytes_per_s:
            time.sleep(0.05)


def _listed(root: Path, path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    return {
        "type": "file",
        "path": path.relative_to(root).as_posix(),
        "size": size,
        "oid": "0" * 40,
        "lfs": {"oid": _sha256(path), "size": size, "pointerSize": 134},
    }


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of(path, status.st_mtime_ns, status.st_size)


@functools.cache
def _sha256_of(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    with Hub(folder=Path(sys.argv[1])).running(sys.argv[2], int(sys.argv[3])):
        threading.Event().wait()
