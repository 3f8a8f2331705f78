"""A stand-in for the Hugging Face hub: serves the folders OWNER/NAME below a folder.

Speaks what huggingface_hub 2.4 asks for: files with their metadata and ranges, a repository's
commit and its tree, and the error codes of gated, missing and unknown things. As a program:

    python tests/support/hub.py FOLDER HOST PORT
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(kw_only=True)
class Hub:
    """What the stand-in has and how it misbehaves, by `OWNER/NAME/path` or `OWNER/NAME`.

    `served` lists what was sent: path, first byte, number of bytes.
    """

    folder: Path
    gated: dict[str, str] = field(default_factory=dict)
    """Repositories that want this token."""
    cut: dict[str, list[int]] = field(default_factory=dict)
    """Files whose transfers end early, after so many bytes: one number for each transfer."""
    damaged: set[str] = field(default_factory=set)
    """Files of which other bytes are sent than were announced."""
    together: threading.Barrier | None = None
    """Each transfer waits here for the others."""
    bytes_per_s: int | None = None
    url: str = ""
    served: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, path: str, content: bytes) -> str:
        """Put a file there; return its SHA-256."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    @contextmanager
    def running(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[Hub]:
        """Serve until the block ends."""
        server = _Server((host, port), self)
        self.url = f"http://{host}:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        super().__init__(address, _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        api = parts[0] == "api"
        owner_and_name = "/".join(parts[2:4] if api else parts[0:2])
        rest = parts[4:] if api else parts[2:]
        root = self.server.hub.folder / owner_and_name
        if not root.is_dir():
            self._refuse(404, "RepoNotFound")
        elif (token := self.server.hub.gated.get(owner_and_name)) and not self._has(token):
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
        if rest[:1] == ["tree"]:
            tree = [
                {
                    "type": "file",
                    "path": path.relative_to(root).as_posix(),
                    "size": path.stat().st_size,
                    "oid": "0" * 40,
                    "lfs": {
                        "oid": _sha256(path),
                        "size": path.stat().st_size,
                        "pointerSize": 134,
                    },
                }
                for path in sorted(root.rglob("*"))
                if path.is_file()
            ]
            body: object = tree
        else:
            body = {"id": root.name, "sha": COMMIT, "siblings": []}
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, owner_and_name: str, root: Path, name: str) -> None:
        path = root / name
        if not path.is_file():
            self._refuse(404, "EntryNotFound")
            return
        content = path.read_bytes()
        headers = {
            "ETag": f'"{_sha256(path)}"',
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{_sha256(path)}"',
            "Accept-Ranges": "bytes",
        }
        key = f"{owner_and_name}/{name}"
        if key in self.server.hub.damaged:
            content = bytes(byte ^ 255 for byte in content)
        first = self._first_byte()
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._send(206 if first else 200, content[first:], headers, key, first)

    def _first_byte(self) -> int:
        value = self.headers.get("Range", "bytes=0-")
        return int(value.removeprefix("bytes=").split("-")[0])

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], key: str = "", first: int = 0
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if key and self.server.hub.together:
            self.server.hub.together.wait(20)
        limits = self.server.hub.cut.get(key, [])
        sent = body[: limits.pop(0)] if limits else body
        if key:
            self.server.hub.served.append((key, first, len(sent)))
        with suppress(ConnectionError):  # the client was killed
            self._write(sent)
        if len(sent) < len(body):
            self.close_connection = True

    def _write(self, content: bytes) -> None:
        if not self.server.hub.bytes_per_s:
            self.wfile.write(content)
            return
        step = max(1, self.server.hub.bytes_per_s // 20)
        for start in range(0, len(content), step):
            self.wfile.write(content[start : start + step])
            self.wfile.flush()
            time.sleep(0.05)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    with Hub(folder=Path(sys.argv[1])).running(sys.argv[2], int(sys.argv[3])):
        threading.Event().wait()
