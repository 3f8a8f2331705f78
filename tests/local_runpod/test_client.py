from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from local_runpod.client import endpoint as client_module
from local_runpod.client.endpoint import ClientError, EndpointClient

DONE = (200, b'{"id": "j", "status": "COMPLETED", "output": 1}')
RUNNING = (200, b'{"id": "j", "status": "IN_PROGRESS"}')


@contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[EndpointClient]:
    """A client of an endpoint that gives these answers in turn, the last one for ever."""
    rest = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Give the next answer."""
            self.do_GET()

        def do_GET(self) -> None:
            """Give the next answer."""
            code, body = rest.pop(0) if len(rest) > 1 else rest[0]
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield EndpointClient(f"http://127.0.0.1:{server.server_address[1]}", "secret-key")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_following_survives_passing_errors() -> None:
    seen: list[str] = []
    missing = (404, b'{"status": 404, "title": "Not Found", "detail": "job not found"}')
    with answering(missing, (502, b"<html>"), RUNNING, (429, b"{}"), DONE) as client:
        job = client.follow("j", lambda answer: seen.append(answer["status"]))
    assert job["output"] == 1
    assert seen == ["IN_PROGRESS", "COMPLETED"]


@pytest.mark.parametrize("code", [404, 500])
def test_following_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.3)
    monkeypatch.setattr(client_module, "NOT_FOUND_PATIENCE_S", 0.3)
    problem = json.dumps({"status": code, "detail": "the reason"}).encode()
    with (
        answering((code, problem)) as client,
        pytest.raises(ClientError, match=f"answered {code}: the reason"),
    ):
        client.follow("j", lambda _answer: None)


@pytest.mark.parametrize("body", [b"<html>a web page</html>", b"[]"])
def test_an_address_that_is_no_endpoint_is_recognised(body: bytes) -> None:
    with answering((200, body)) as client, pytest.raises(ClientError, match="is it an endpoint"):
        client.status("j")


def test_a_submission_without_an_id_is_recognised() -> None:
    with answering((200, b"{}")) as client, pytest.raises(ClientError, match="no job id"):
        client.submit({"input": {}})


def test_a_wrong_key_is_explained_without_showing_it() -> None:
    with answering((401, b"")) as client, pytest.raises(ClientError) as caught:
        client.submit({"input": {}})
    assert "RUNPOD_API_KEY" in str(caught.value)
    assert "secret-key" not in str(caught.value)
