"""A webhook receiver for tests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """A webhook receiver: answers with the given codes in turn, the last one for ever.

    While `may_answer` is cleared, it does not answer at all.
    """

    def __init__(self, codes: tuple[int, ...]) -> None:
        self.calls: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.codes = codes
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.url = ""

    def wait(self, count: int, seconds: float = 10) -> list[dict[str, Any]]:
        """Wait for so many calls, and a moment for one too many."""
        deadline = time.monotonic() + seconds
        while len(self.calls) < count:
            assert time.monotonic() < deadline, f"{len(self.calls)} of {count} calls"
            time.sleep(0.02)
        time.sleep(0.4)
        assert len(self.calls) == count
        return self.calls


@contextmanager
def receiving(*codes: int) -> Iterator[Receiver]:
    """Receive on a free port until the block ends."""
    receiver = Receiver(codes)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Note the call and answer."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            number = len(receiver.calls)
            receiver.calls.append(json.loads(body))
            receiver.headers.append(dict(self.headers))
            receiver.may_answer.wait()
            self.send_response(receiver.codes[min(number, len(receiver.codes) - 1)])
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook?secret=1"
    try:
        yield receiver
    finally:
        receiver.may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()
