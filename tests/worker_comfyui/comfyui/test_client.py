"""The client of ComfyUI over real sockets: against a server, and against answers of any kind."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfyui import ComfyUI, running_comfyui
from worker_comfyui.comfyui import events
from worker_comfyui.comfyui.client import (
    BadAnswer,
    ComfyClient,
    FileMissing,
    PromptRefused,
)
from worker_comfyui.comfyui.event_stream import Disconnected, EventStream
from worker_comfyui.errors import ComfyUnavailable

IMAGE: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


def new_id() -> str:
    return str(uuid.uuid4())


def queue(client: ComfyClient, workflow: dict[str, Any], client_id: str = "c") -> str:
    prompt_id = new_id()
    errors = client.queue_prompt(workflow, prompt_id=prompt_id, client_id=client_id, extra_data={})
    assert errors == {}
    return prompt_id


def entry_of(client: ComfyClient, prompt_id: str, seconds: float = 20) -> dict[str, Any]:
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        if entry := client.history(prompt_id):
            return entry
        time.sleep(0.02)
    raise TimeoutError(prompt_id)


def read_on(stream: EventStream) -> None:
    for _ in range(100):
        stream.receive(5)


def sleeping(seconds: float) -> dict[str, Any]:
    return {"1": {"class_type": "TestSleepOutput", "inputs": {"seconds": seconds}}}


# Against a server


def test_a_server_that_answers_is_ready(client: ComfyClient) -> None:
    assert client.is_ready()
    assert client.system_stats()["system"]["comfyui_version"]


def test_a_prompt_runs_to_its_history_and_its_file(client: ComfyClient, tmp_path: Path) -> None:
    prompt_id = queue(client, IMAGE)
    entry = entry_of(client, prompt_id)
    (image,) = entry["outputs"]["2"]["images"]
    target = tmp_path / "image.png"
    size = client.download(
        filename=image["filename"], subfolder=image["subfolder"], folder_type="output", to=target
    )
    assert target.read_bytes().startswith(b"\x89PNG")
    assert size == target.stat().st_size
    client.forget([prompt_id])
    assert client.history(prompt_id) is None
    assert not client.is_queued(prompt_id)


def test_a_prompt_is_queued_while_it_waits_and_runs_and_cancelled_in_both(
    client: ComfyClient,
) -> None:
    running, waiting = queue(client, sleeping(30)), queue(client, sleeping(30))
    assert client.is_queued(running)
    assert client.is_queued(waiting)
    client.cancel(waiting)
    assert not client.is_queued(waiting)
    assert client.is_queued(running)
    give_up_at = time.monotonic() + 20
    while client.is_queued(running) and time.monotonic() < give_up_at:
        client.cancel(running)
        time.sleep(0.05)
    assert entry_of(client, running)["status"]["status_str"] == "error"
    assert client.history(waiting) is None


def test_cancelling_an_unknown_prompt_touches_no_other(client: ComfyClient) -> None:
    running = queue(client, sleeping(0.5))
    client.cancel(new_id())
    assert entry_of(client, running)["status"]["status_str"] == "success"


def test_an_unknown_prompt_has_no_history(client: ComfyClient) -> None:
    assert client.history(new_id()) is None
    assert client.history("next frames/ü?#\r\n\ud800") is None  # a node may choose an id
    assert not client.is_queued(new_id())


def test_a_prompt_that_is_wrong_is_refused_with_the_answer(client: ComfyClient) -> None:
    workflow = {"1": {"class_type": "NoSuchNode", "inputs": {}}}
    with pytest.raises(PromptRefused) as caught:
        queue(client, workflow)
    assert caught.value.status == 400
    assert "NoSuchNode" in json.dumps(caught.value.answer)


def test_a_prompt_that_is_wrong_in_part_runs_and_says_what_was_left_out(
    client: ComfyClient,
) -> None:
    workflow = {**IMAGE, "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": "y"}}}
    prompt_id = new_id()
    errors = client.queue_prompt(workflow, prompt_id=prompt_id, client_id="c", extra_data={})
    assert set(errors) == {"3"}
    assert entry_of(client, prompt_id)["status"]["status_str"] == "success"


def test_a_class_is_described(client: ComfyClient) -> None:
    described = client.node_class("SaveImage")
    assert described is not None
    assert "images" in described["input"]["required"]
    assert {"SaveImage", "LoadImage", "EmptyImage"} <= set(client.object_info())


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../queue", "a?b#c", "%2e%2e", "ü", "\ud800", "a\nb", "x" * 20000],
)
def test_whatever_is_no_class_is_none(client: ComfyClient, name: str) -> None:
    assert client.node_class(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "photo.png",
        "it's.png",
        "100%.png",
        "a%22b.png",
        "日本語.png",
        "Screenshot 1.00.00\N{NARROW NO-BREAK SPACE}PM.png",
        "two words/in a folder.png",
        "a;b=c.png",
        "utf-8''x.png",
        "*?<>|.png",
        "a/b/c/d/e/f/g/deep.png",
        "x" * 255,
    ],
)
def test_an_upload_keeps_its_name_and_its_bytes(
    comfyui: ComfyUI, client: ComfyClient, name: str, tmp_path: Path
) -> None:
    path = comfyui.base / "input" / name
    sent = tmp_path / "sent"
    for data in (bytes(range(256)), b"another"):  # the second over the first
        sent.write_bytes(data)
        assert client.upload(name, sent) == name
        assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("name", "subfolder"),
    [
        ("missing.png", ""),
        ("../comfyui.log", ""),
        ("comfyui.log", ".."),
        ("", ""),
        ("/etc/passwd", ""),
    ],
)
def test_a_file_that_is_not_there_or_refused_is_missing(
    client: ComfyClient, tmp_path: Path, name: str, subfolder: str
) -> None:
    target = tmp_path / "file"
    with pytest.raises(FileMissing, match="HTTP 40"):
        client.download(filename=name, subfolder=subfolder, folder_type="output", to=target)
    assert not target.exists()


def test_proxies_of_the_environment_are_not_for_comfyui(
    comfyui: ComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with ComfyClient(comfyui.address) as client:
        assert client.is_ready()
    stream = EventStream(comfyui.address, "c")
    assert stream.receive(5) is not None
    stream.close()


def test_the_websocket_tells_of_a_prompt_to_its_end(comfyui: ComfyUI, client: ComfyClient) -> None:
    client_id = uuid.uuid4().hex
    stream = EventStream(comfyui.address, client_id)
    try:
        prompt_id = queue(client, IMAGE, client_id)
        seen: list[events.Event] = []
        give_up_at = time.monotonic() + 20
        while events.Ended(stored=True) not in seen and time.monotonic() < give_up_at:
            frame = stream.receive(1)
            event = events.parse(frame, prompt_id) if frame is not None else None
            seen += [event] if event else []
        assert events.Ended(stored=True) in seen
        assert any(isinstance(event, events.NodesCached) for event in seen)
        assert client.history(prompt_id) is not None
    finally:
        stream.close()


def test_a_websocket_on_which_nothing_comes_gives_none_in_time(comfyui: ComfyUI) -> None:
    stream = EventStream(comfyui.address, "quiet")
    assert stream.receive(5)  # the first status
    started = time.monotonic()
    assert stream.receive(0.1) is None
    assert 0.05 < time.monotonic() - started < 8
    stream.close()
    with pytest.raises(Disconnected):
        stream.receive(0.1)


def test_a_websocket_of_a_server_that_dies_is_disconnected(tmp_path: Path) -> None:
    with running_comfyui(tmp_path) as server:
        stream = EventStream(server.address, "c")
        assert stream.receive(5)
        server.process.kill()
        started = time.monotonic()
        with pytest.raises(Disconnected):
            read_on(stream)
        assert time.monotonic() - started < 5
        stream.close()


# Against awkward answers


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that answers everything like this; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        do_GET = do_POST = answer  # noqa: N815  # the library's names

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def speaking(speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads a request's head, then does this to the connection; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(5)
                head = b""
                while b"\r\n\r\n" not in head and (part := connection.recv(65536)):
                    head += part
                with suppress(OSError):
                    speak(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        thread.join()
        listener.close()


CALLS: dict[str, Callable[[ComfyClient], object]] = {
    "system_stats": lambda client: client.system_stats(),
    "upload": lambda client: client.upload("a.png", Path(__file__)),
    "history": lambda client: client.history("p"),
    "is_queued": lambda client: client.is_queued("p"),
    "object_info": lambda client: client.object_info(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"500 Internal Server Error\n\nServer got itself in trouble"),
        (404, b""),
        (413, b"{}"),
        (200, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"null"),
        (200, b"\xff\xfe"),
        (200, b"[" * 100_000),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_of_comfyui(
    call: str, status: int, body: bytes
) -> None:
    with (
        answering(status, body) as address,
        ComfyClient(address) as client,
        pytest.raises(BadAnswer),
    ):
        CALLS[call](client)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"queue_running": 5}',
        b'{"queue_running": [5]}',
        b'{"queue_running": [[]], "queue_pending": []}',
    ],
)
def test_a_queue_of_an_odd_shape_is_an_error_of_comfyui(body: bytes) -> None:
    with (
        answering(200, body) as address,
        ComfyClient(address) as client,
        pytest.raises(BadAnswer),
    ):
        client.is_queued("p")


@pytest.mark.parametrize("body", [b"{}", b'{"name": 5}', b'{"subfolder": "x"}'])
def test_an_upload_without_a_name_in_the_answer_is_an_error_of_comfyui(body: bytes) -> None:
    with (
        answering(200, body) as address,
        ComfyClient(address) as client,
        pytest.raises(BadAnswer),
    ):
        client.upload("a.png", Path(__file__))


@pytest.mark.parametrize("body", [b"{}", b"", b'{"prompt_id": "another"}', b'{"prompt_id": 5}'])
def test_a_prompt_queued_under_another_id_is_an_error_of_comfyui(body: bytes) -> None:
    with (
        answering(200, body) as address,
        ComfyClient(address) as client,
        pytest.raises(BadAnswer, match="another id"),
    ):
        queue(client, IMAGE)


@pytest.mark.parametrize("body", [b"", b"text", b"[]", b"null", b"[" * 100_000])
def test_a_refusal_without_json_is_a_refusal(body: bytes) -> None:
    with (
        answering(500, body) as address,
        ComfyClient(address) as client,
        pytest.raises(PromptRefused) as caught,
    ):
        queue(client, IMAGE)
    assert (caught.value.status, caught.value.answer) == (500, {})


def test_nan_in_a_history_entry_is_taken() -> None:
    body = b'{"p": {"outputs": {"1": {"float": [NaN, Infinity]}}}}'
    with answering(200, body) as address, ComfyClient(address) as client:
        entry = client.history("p")
    assert entry is not None
    assert len(entry["outputs"]["1"]["float"]) == 2


@pytest.mark.parametrize("status", [404, 500])
def test_a_class_that_cannot_be_described_is_none(status: int) -> None:
    with answering(status, b"") as address, ComfyClient(address) as client:
        assert client.node_class("KSampler") is None


def test_a_server_that_answers_with_an_error_is_not_ready() -> None:
    with answering(500, b"") as address, ComfyClient(address) as client:
        assert not client.is_ready()


def test_a_server_that_is_not_there_is_unavailable_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with ComfyClient(address) as client:
        started = time.monotonic()
        assert not client.is_ready()
        for call in CALLS.values():
            with pytest.raises(ComfyUnavailable):
                call(client)
        assert time.monotonic() - started < 5
    with pytest.raises(Disconnected):
        EventStream(address, "c")


def test_a_server_that_says_nothing_is_unavailable_after_the_timeout() -> None:
    with (
        speaking(lambda _: time.sleep(1)) as address,
        ComfyClient(address, timeout_s=0.2) as client,
    ):
        started = time.monotonic()
        with pytest.raises(ComfyUnavailable, match="did not answer GET /system_stats"):
            client.system_stats()
        assert time.monotonic() - started < 2


GARBAGE = [
    b"",
    b"\r\n",
    b"garbage\r\n\r\n",
    b"\xff\xfe\x00\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 many\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 301 Moved\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_an_answer_that_is_no_http_is_an_error_of_comfyui(garbage: bytes) -> None:
    with (
        speaking(lambda connection: connection.sendall(garbage)) as address,
        ComfyClient(address, timeout_s=3) as client,
    ):
        for call in CALLS.values():
            with pytest.raises(ComfyUnavailable):
                call(client)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_handshake_that_is_none_is_disconnected(garbage: bytes) -> None:
    with (
        speaking(lambda connection: connection.sendall(garbage)) as address,
        pytest.raises(Disconnected),
    ):
        EventStream(address, "c", timeout_s=3)


def test_a_handshake_without_an_answer_is_disconnected_after_the_timeout() -> None:
    with speaking(lambda _: time.sleep(1)) as address:
        started = time.monotonic()
        with pytest.raises(Disconnected):
            EventStream(address, "c", timeout_s=0.2)
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n50\r\nnot all",
    ],
)
def test_a_file_that_comes_only_in_part_is_an_error(answer: bytes, tmp_path: Path) -> None:
    with (
        speaking(lambda connection: connection.sendall(answer)) as address,
        ComfyClient(address, timeout_s=3) as client,
        pytest.raises(ComfyUnavailable, match=r"x\.png came only in part"),
    ):
        client.download(filename="x.png", subfolder="", folder_type="output", to=tmp_path / "x")


def test_a_file_that_stops_coming_is_an_error_after_the_timeout(tmp_path: Path) -> None:
    def speak(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        time.sleep(1)

    with (
        speaking(speak) as address,
        ComfyClient(address, timeout_s=0.2) as client,
        pytest.raises(ComfyUnavailable, match="only in part"),
    ):
        client.download(filename="x", subfolder="", folder_type="output", to=tmp_path / "x")


def test_a_disk_that_cannot_be_written_is_not_comfyui_s_fault(tmp_path: Path) -> None:
    with answering(200, b"data") as address, ComfyClient(address) as client:
        with pytest.raises(FileNotFoundError):
            client.download(
                filename="x", subfolder="", folder_type="output", to=tmp_path / "no" / "x"
            )
        with pytest.raises(OSError, match="No space left"):
            client.download(filename="x", subfolder="", folder_type="output", to=Path("/dev/full"))


# Websocket frames, made by hand

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n"
)


@contextmanager
def talking(*parts: bytes, pause_s: float = 0.0) -> Iterator[EventStream]:
    """A stream whose server sends these bytes, then closes the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            key = re.findall(rb"(?i)sec-websocket-key: (\S+)", head)[0]
            digest = hashlib.sha1(key + GUID).digest()  # noqa: S324  # as RFC 6455 has it
            connection.sendall(SWITCH % base64.b64encode(digest))
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)

    thread = threading.Thread(target=serve)
    thread.start()
    stream = EventStream(f"127.0.0.1:{listener.getsockname()[1]}", "c", timeout_s=5)
    try:
        yield stream
    finally:
        stream.close()
        thread.join()
        listener.close()


def frame(opcode: int, data: bytes, *, last: bool = True) -> bytes:
    length = bytes([len(data)]) if len(data) < 126 else bytes([126]) + len(data).to_bytes(2, "big")
    return bytes([opcode | (0x80 if last else 0)]) + length + data


def test_text_and_binary_frames_are_told_apart() -> None:
    with talking(frame(1, "ü".encode()), frame(2, b"\x00\x00\x00\x01")) as stream:
        assert stream.receive(5) == "ü"
        assert stream.receive(5) == b"\x00\x00\x00\x01"
        with pytest.raises(Disconnected):
            stream.receive(5)


def test_a_frame_in_pieces_is_put_together() -> None:
    with talking(frame(1, b"one ", last=False), frame(9, b"ping"), frame(0, b"two")) as stream:
        assert stream.receive(5) == "one two"


def test_a_frame_that_announces_more_than_any_picture_has_is_not_waited_for() -> None:
    announced = (1 << 30).to_bytes(8, "big")
    with talking(bytes([0x82, 127]) + announced + b"x" * 100_000, pause_s=2) as stream:
        started = time.monotonic()
        with pytest.raises(Disconnected, match="a frame of 1073741824 bytes"):
            stream.receive(5)
        assert time.monotonic() - started < 2


def test_a_frame_slower_than_the_wait_is_not_lost() -> None:
    whole = frame(1, b"x" * 300)
    pieces = [whole[:1], whole[1:3], whole[3:100], whole[100:250], whole[250:]]
    with talking(*pieces, frame(1, b"next"), pause_s=0.1) as stream:
        received: list[str | bytes] = []
        give_up_at = time.monotonic() + 10
        while len(received) < 2 and time.monotonic() < give_up_at:
            received += [text] if (text := stream.receive(0.02)) is not None else []
        assert received == ["x" * 300, "next"]


@pytest.mark.parametrize(
    "bad",
    [
        frame(8, b"\x03\xe8bye"),
        frame(1, b"\xff\xfe"),
        frame(3, b"reserved"),
        frame(9, b"x" * 200),
        b"\xff\xff\xff",
    ],
)
def test_a_close_or_a_frame_against_the_protocol_ends_the_stream(bad: bytes) -> None:
    with talking(bad) as stream, pytest.raises(Disconnected):
        read_on(stream)


def test_closing_twice_does_no_harm() -> None:
    with talking(frame(1, b"x")) as stream:
        stream.close()
        stream.close()


# Answers that would fill the memory, and connections that fail


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_would_fill_the_memory_is_given_up(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("worker_comfyui.comfyui.client.MAX_ANSWER_BYTES", 1 << 20)
    with answering(status, b"[" * (3 << 20)) as address, ComfyClient(address) as client:
        with pytest.raises(BadAnswer):
            client.history("x")
        with pytest.raises(PromptRefused if status == 400 else BadAnswer) as caught:
            client.queue_prompt({}, prompt_id="x", client_id="c", extra_data={})
    if isinstance(caught.value, PromptRefused):
        assert "too many invalid nodes" in caught.value.answer["error"]["message"]


def test_a_connection_that_fails_is_told_in_a_few_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with ComfyClient(f"127.0.0.1:{port}") as client, pytest.raises(ComfyUnavailable) as caught:
        client.history("x")

    assert caught.value.message == "ComfyUI did not answer GET /history/x: Connection refused"


def test_a_text_of_many_megabytes_in_an_event_costs_no_seconds() -> None:
    text = b"x" * 20_000_000
    frame = b"\x81\x7f" + len(text).to_bytes(8, "big") + text
    with talking(frame) as stream:
        started = time.monotonic()
        received = None
        while received is None:
            received = stream.receive(0.25)
        assert len(received) == len(text)
        assert time.monotonic() - started < 5
