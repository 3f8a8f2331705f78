"""Whatever is sent, stored, answered or decoded: a job ends in time, in bounds, and with a code.

Each test draws whole jobs and runs them on the stand-in or on a ComfyUI that answers anything.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.bounds import MEGA, Bounds, assert_answered, examples
from tests.support.comfyui import ROOT
from tests.support.raw_server import RawServer, conversing
from tests.support.worker import WorkerUnderTest, remote_worker, running_worker, worker_is_clean
from tests.support.workflows import empty_image, node, png, saved_image, saved_input
from worker_comfyui.delivery import presigned, s3
from worker_comfyui.request import download

log = logging.getLogger(__name__)

TIMEOUT_S = 6.0
SLACK_S = 6.0
"""After the deadline, on a machine that does other things as well."""
MORE_BYTES = 400 * MEGA
"""What one job may take of the worker's memory; what is drawn here has a megabyte at most."""
CHILD_BYTES = 1500 * MEGA
"""What ComfyUI or a decoder may take: a converted image may have 24 bytes a pixel and 512 MB."""

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)
NUMBERS = st.integers(-3, 70) | st.sampled_from([10**30, -(10**30), 2**63, 0.5, 1e308, 5e-324])
SCALAR = st.none() | st.booleans() | NUMBERS | st.floats() | ANY_TEXT
ANYTHING = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
Json = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat what failed at once: waiting shows nothing."""
    monkeypatch.setattr(download, "RETRY_PAUSES_S", (0.01,))
    monkeypatch.setattr(presigned, "PAUSES_S", (0.01,))
    monkeypatch.setattr(s3, "PAUSES_S", (0.01,))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every list or object within, with each of its keys."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


@st.composite
def changed(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """A value with something else in some of its places."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, most))):
        found = places(value)
        if not found:
            break
        holder, key = draw(st.sampled_from(found))
        if draw(st.booleans()):
            holder[key] = draw(ANYTHING)
        elif isinstance(holder, dict):
            holder[draw(ANY_TEXT)] = holder.pop(key)
        else:
            del holder[key]
    return value


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes of which some are others, and which may end early."""
    made = bytearray(data)
    for _ in range(draw(st.integers(0, 6))):
        made[draw(st.integers(0, len(made) - 1))] = draw(st.integers(0, 255))
    return bytes(made[: draw(st.integers(len(made) // 2, len(made)))])


# --- servers that answer as drawn: hosts of inputs and models, buckets, signed addresses

HEADERS = st.sampled_from(
    [
        b"Content-Length: -5",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 3, 5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Content-Encoding: gzip",
        b"Content-Range: bytes 0-3/7",
        b"Content-Range: bytes x",
        b"Content-Type: text/html",
        b"Content-Type: application/xml",
        b"ETag: \xff",
        b"Content-Disposition: attachment; filename=../../x.safetensors",
        b"Location: ",
        b"Location: http://[::1",
        b"Location: http://169.254.169.254/",
        b"Location: /again",
        b"Location: //",
        b"Retry-After: 99999999999",
        b"Connection: close",
    ]
)
STATUS = st.sampled_from([200, 200, 200, 201, 204, 206, 301, 302, 307, 400, 401, 403, 404, 416,
                          429, 500, 503, 99, 700])  # fmt: skip
XML = st.sampled_from(
    [
        b"<Error><Code>SlowDown</Code><Message>x</Message></Error>",
        b"<Error><Code></Code></Error>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><Error><Code>&b;</Code></Error>",
        b"<?xml version='1.0' encoding='utf-7'?><Error/>",
        b"<a><b>",
    ]
)
CONTENT = (
    st.binary(max_size=60)
    | XML
    | st.sampled_from([png((1, 2, 3)), json.dumps(saved_image()).encode(), b"-1\r\nabc\r\n"])
    | changed(saved_image()).map(lambda value: json.dumps(value).encode())
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """What a server says."""
    head = [b"HTTP/1.1 %d X" % draw(STATUS), *draw(st.lists(HEADERS, max_size=3))]
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    return b"\r\n".join(head) + b"\r\n\r\n" + draw(CONTENT)


@dataclass
class Elsewhere:
    """Everything outside: one server whose answer is set for each job."""

    server: RawServer
    answer: bytes = b""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    found: list[Elsewhere] = []

    def talk(client: socket.socket, server: RawServer) -> None:
        take_body(client, server.requests[-1])
        client.sendall(found[0].answer)

    with conversing(talk) as server:
        found.append(Elsewhere(server))
        yield found[0]


def take_body(client: socket.socket, head: bytes) -> bytes:
    """Read what follows the head of a request."""
    match = re.search(rb"(?i)content-length: (\d+)", head)
    body = head.partition(b"\r\n\r\n")[2]
    client.settimeout(2)
    with suppress(OSError):
        while match and len(body) < int(match[1]):
            if not (piece := client.recv(65536)):
                break
            body += piece
    return body


# --- requests

EDITOR = json.loads((ROOT / "test_resources/workflows/editor/frame.json").read_text())
IMAGES: Json = {
    "1": node("LoadImage", image="a.png"),
    "2": node("ImageScale", image=["1", 0], width=16, height=16, upscale_method="bilinear",
              crop="disabled"),
    "3": node("ImageInvert", image=["2", 0]),
    "4": node("ImageBatch", image1=["3", 0], image2=["2", 0]),
    "5": node("SaveAnimatedWEBP", images=["4", 0], filename_prefix="a", fps=6.0, lossless=True,
              quality=80, method="default"),
    "6": node("PreviewImage", images=["3", 0]),
    "7": node("SaveImage", images=["1", 1], filename_prefix="%width%/a"),
}  # fmt: skip
REPORT: Json = {
    "1": node("TestOutput", ui='{"text": ["a"], "images": []}', files='{"a.bin": "AAAA"}')
}
GRAPHS = st.sampled_from([saved_image(), saved_input("a.png"), IMAGES, REPORT, EDITOR])


def in_a_file(value: Any, image_format: str) -> bytes:
    """A picture with a workflow in it, as ComfyUI saves it."""
    data, text = io.BytesIO(), json.dumps(value)
    key = "workflow" if "nodes" in value else "prompt"
    if image_format == "PNG":
        info = PngInfo()
        info.add_text(key, text, zip=len(text) % 2 == 0)
        Image.new("RGB", (4, 4)).save(data, "PNG", pnginfo=info)
    else:
        exif = Image.Exif()
        exif[0x0110 if key == "prompt" else 0x010F] = f"{key}:{text}"
        Image.new("RGB", (4, 4)).save(data, image_format, exif=exif)
    return data.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@st.composite
def workflows(draw: st.DrawFn, url: str) -> Any:
    """A workflow in any of its forms, and nearly one."""
    made = draw(GRAPHS.flatmap(changed) | ANYTHING)
    form = draw(st.sampled_from(["as it is", "text", "prompt", "file", "url", "stored", "history"]))
    match form:
        case "text":
            return json.dumps(made)
        case "prompt":
            return {"prompt": made, "extra_data": draw(ANYTHING)}
        case "history":
            return {draw(ANY_TEXT): {"prompt": [1, "a", made, draw(ANYTHING)]}}
        case "file":
            file = json.dumps(made).encode()
            if isinstance(made, dict):
                file = in_a_file(made, draw(st.sampled_from(["PNG", "JPEG", "WEBP"])))
            text = _base64(draw(damaged(file)))
            return draw(st.sampled_from(["data:;base64,", "data:image/png;base64,", ""])) + text
        case "url":
            return url + draw(st.sampled_from(["", "/a.json", "/%", "/a?token=s3cr3t-t0k3n"]))
        case "stored":
            return draw(st.sampled_from(["good", "folder/good", "bad", "../outside", "link", "good."])
                        | ANY_TEXT)  # fmt: skip
    return made


@st.composite
def files(draw: st.DrawFn, url: str) -> Any:
    content = draw(
        st.sampled_from([_base64(png((9, 8, 7))), url, f"{url}/\ud800", "data:,%41%", "data:"])
        | damaged(png((1, 2, 3))).map(_base64)
        | ANY_TEXT
    )
    name = draw(st.sampled_from(["a.png", "b.webp", "folder/c.mp4", "./a.png"]) | ANY_TEXT)
    return {"name": name, draw(st.sampled_from(["image", "data", "url"])): content}


@st.composite
def outputs(draw: st.DrawFn, url: str) -> Any:
    addresses = st.sampled_from([url, f"{url}/x?X-Amz-Signature=0", "http://[::1", ""]) | ANY_TEXT
    return draw(
        st.fixed_dictionaries(
            {},
            optional={
                "delivery": st.sampled_from(["s3", "base64"]),
                "format": st.sampled_from(["webp", "jpg", "png"]),
                "quality": st.integers(1, 100),
                "metadata": st.booleans(),
                "previews": st.booleans(),
                "workflow": st.booleans(),
                "live": st.booleans(),
                "upload": st.dictionaries(
                    st.sampled_from(["images", "videos", "result_00001_.png"]) | ANY_TEXT,
                    addresses | st.lists(addresses, max_size=3),
                    max_size=3,
                ),
            },
        )
    )


@st.composite
def models(draw: st.DrawFn, url: str) -> Any:
    entry = {
        "folder": draw(st.sampled_from(["loras", "../x", ""]) | ANY_TEXT),
        "name": draw(st.sampled_from(["a.safetensors", "../b.ckpt", "c"]) | ANY_TEXT),
        "url": draw(st.sampled_from([f"{url}/a.safetensors", "https://huggingface.co/a"])),
    }
    return draw(st.sampled_from(["list", "usage", "verify", "fetch", "delete"]) | changed([entry]))


@st.composite
def requests_for(draw: st.DrawFn, url: str) -> Json:
    """A whole job: `input` and what stands beside it."""
    sent: Json = {"workflow": draw(workflows(url))}
    beside = {
        "images": st.lists(files(url), max_size=3),
        "files": st.lists(files(url), max_size=2),
        "output": outputs(url),
        "overrides": st.dictionaries(
            st.sampled_from(["1.color", "2.filename_prefix", "1.image", "SaveImage.images"])
            | ANY_TEXT,
            SCALAR | st.sampled_from(["random", ["1", 0]]),
            max_size=3,
        ),
        "models": models(url),
        "dry_run": st.booleans(),
        "timeout_s": st.sampled_from([1, 2.5, TIMEOUT_S]),
        "extra_data": st.dictionaries(ANY_TEXT, ANYTHING, max_size=2),
    }
    for name in draw(st.lists(st.sampled_from(sorted(beside)), max_size=4, unique=True)):
        sent[name] = draw(beside[name])
    if isinstance(sent.get("models"), str) and draw(st.booleans()):
        del sent["workflow"]
        sent["names"] = draw(st.lists(ANY_TEXT, max_size=2))
    raw: Json = {"input": draw(changed(sent, 1))}
    if draw(st.integers(0, 3)) == 0:
        raw["s3Config"] = {
            "endpointUrl": f"{url}/bucket",
            "accessId": "an-access-id",
            "accessSecret": "an-access-secret",
        }
    return raw


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    base = tmp_path_factory.mktemp("comfyui")
    stored = base / "stored"
    (stored / "folder").mkdir(parents=True)
    (base / "outside.json").write_text(json.dumps(saved_image()))
    (stored / "link.json").symlink_to(base / "outside.json")
    (stored / "bad.json").write_text("{")
    for name in ("good", "folder/good"):
        (stored / f"{name}.json").write_text(json.dumps(saved_image()))
    with running_worker(
        base,
        ALLOW_PRIVATE_INPUT_URLS="true",
        ALLOW_MODEL_DOWNLOADS="true",
        ALLOW_MODEL_JOBS="true",
        MODEL_HOSTS="*",
        MODEL_MAX_GB="0.1",
        MODEL_STORE_PATH=str(base / "store"),
        WORKFLOWS_PATH=str(stored),
        JOB_TIMEOUT_S=str(TIMEOUT_S),
        COMFY_POLL_INTERVAL_S="0.5",
    ) as running:
        yield running


def test_no_request_is_a_failure_of_the_worker(
    worker: WorkerUnderTest, elsewhere: Elsewhere
) -> None:
    bounds = Bounds(TIMEOUT_S + SLACK_S, MORE_BYTES, CHILD_BYTES)

    @settings(max_examples=examples(60))
    @given(requests_for(elsewhere.server.url), answers())
    def check(raw: Json, answer: bytes) -> None:
        elsewhere.answer = answer
        with bounds.kept():
            result = worker.start(raw.get("input"), **without(raw, "input")).result()  # type: ignore[arg-type]
        assert_answered(result)

    check()
    log.info("requests: %s", bounds)
    assert worker_is_clean(worker)
    assert worker.scratch() == []


def without(raw: Json, name: str) -> Json:
    return {key: value for key, value in raw.items() if key != name}


# --- files of every format that Pillow writes


def encoded(image_format: str) -> bytes | None:
    """A small picture in this format; None: Pillow has no writer for it, or needs a program."""
    data = io.BytesIO()
    for mode in ("RGB", "L", "1", "P"):
        with suppress(Exception):
            Image.effect_noise((24, 16), 50).convert(mode).save(data, image_format)
            return data.getvalue()
    return None


def seeds() -> dict[str, bytes]:
    Image.init()
    made = {name: encoded(name) for name in sorted(Image.SAVE) if name != "PDF"}
    return {name: data for name, data in made.items() if data}


def test_no_picture_of_any_format_is_a_failure_of_the_worker(worker: WorkerUnderTest) -> None:
    bounds = Bounds(TIMEOUT_S + SLACK_S, MORE_BYTES, CHILD_BYTES)
    pictures = seeds()
    assert {"ICO", "TIFF", "EPS", "JPEG2000", "AVIF", "ICNS", "DDS", "PPM"} <= pictures.keys()

    @settings(max_examples=examples(60))
    @given(
        st.sampled_from(sorted(pictures)).flatmap(lambda name: damaged(pictures[name])),
        st.sampled_from(["a.png", "a.tiff", "a", "a.webp"]),
        st.sampled_from(["images", "files", "made"]),
        outputs(""),
    )
    def check(data: bytes, name: str, group: str, output: Json) -> None:
        output = without(without(output, "upload"), "delivery")
        request: Json = {"workflow": saved_input(name), "output": output}
        if group == "made":
            made = json.dumps({name: _base64(data)})
            shown = json.dumps({"images": [{"filename": name, "subfolder": "", "type": "output"}]})
            request["workflow"] = {"1": node("TestOutput", ui=shown, files=made)}
        else:
            request[group] = [{"name": name, "data": _base64(data)}]
        with bounds.kept():
            result = worker.run(request)
        assert_answered(result)

    check()
    log.info("pictures: %s", bounds)
    assert worker_is_clean(worker)


# --- a ComfyUI that answers anything

CLASSES: Json = {
    "EmptyImage": {
        "input": {"required": {"width": ["INT", {}], "color": ["INT", {}]}},
        "input_order": {"required": ["width", "color"]},
        "output": ["IMAGE"],
        "output_node": False,
        "name": "EmptyImage",
    },
    "SaveImage": {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
        "input_order": {"required": ["images", "filename_prefix"]},
        "output": [],
        "output_node": True,
        "name": "SaveImage",
    },
}
HISTORY: Json = {
    "prompt": [0, "ID", {}, {}, ["2"]],
    "outputs": {
        "2": {
            "images": [{"filename": "a.png", "subfolder": "", "type": "output"}],
            "text": ["said"],
        }
    },
    "status": {
        "status_str": "success",
        "completed": True,
        "messages": [
            ["execution_start", {"prompt_id": "ID", "timestamp": 1}],
            ["execution_cached", {"nodes": [], "prompt_id": "ID", "timestamp": 1}],
            ["execution_success", {"prompt_id": "ID", "timestamp": 2}],
        ],
    },
    "meta": {"2": {"node_id": "2", "display_node": "2", "parent_node": None}},
}
FAILED: Json = {
    **HISTORY,
    "outputs": {},
    "status": {
        "status_str": "error",
        "completed": False,
        "messages": [
            [
                "execution_error",
                {
                    "prompt_id": "ID",
                    "node_id": "2",
                    "node_type": "SaveImage",
                    "executed": [],
                    "exception_message": "it failed",
                    "exception_type": "ValueError",
                    "traceback": ["a"],
                    "current_inputs": {"images": ["x"]},
                    "current_outputs": {},
                },
            ]
        ],
    },
}
REFUSED: Json = {
    "error": {"type": "prompt_outputs_failed_validation", "message": "no", "details": "",
              "extra_info": {}},
    "node_errors": {
        "2": {
            "errors": [{"type": "value_not_in_list", "message": "Value not in list",
                        "details": "x: 'a' not in ['b']",
                        "extra_info": {"input_name": "x", "input_config": [["b"], {}],
                                       "received_value": "a"}}],
            "dependent_outputs": ["2"],
            "class_type": "SaveImage",
        }
    },
}  # fmt: skip
QUEUED: Json = {"prompt_id": "ID", "number": 0, "node_errors": {}}
QUEUE: Json = {"queue_running": [[0, "ID", {}, {}, []]], "queue_pending": []}
RIGHT: Json = {
    "/prompt": QUEUED,
    "/history": HISTORY,
    "/queue": QUEUE,
    "/object_info": CLASSES,
    "/upload": {"name": "a.png", "subfolder": "", "type": "input"},
    "/view": None,
    "/models": ["loras"],
}
STATS: Json = {"system": {"comfyui_version": "0.3.64"}, "devices": [{"name": "cpu"}]}


@dataclass
class Oddity:
    """A ComfyUI whose answers to some routes are drawn.

    Attributes:
        drawn: For a route the status, headers and body; `ID` in a body is the prompt's id.
    """

    drawn: dict[str, tuple[int, list[bytes], bytes]] = field(default_factory=dict)
    prompt_id: str = ""

    def talk(self, client: socket.socket, server: RawServer) -> None:
        head = server.requests[-1]
        method, _, rest = head.partition(b" ")
        path = rest.split(b" ")[0].decode("latin-1").split("?")[0]
        body = take_body(client, head)
        if method == b"POST" and path == "/prompt":
            with suppress(ValueError, KeyError):
                self.prompt_id = json.loads(body)["prompt_id"]
        client.sendall(self.answer(method, path))

    def answer(self, method: bytes, path: str) -> bytes:
        if path == "/system_stats" or (path == "/prompt" and method == b"GET"):
            return said(200, [], json.dumps(STATS).encode())
        route = "/" + path.split("/")[1]
        if route in self.drawn:
            status, headers, body = self.drawn[route]
            return said(status, headers, body.replace(b"ID", self.prompt_id.encode()))
        value = RIGHT.get(route)
        if route == "/history" and method == b"GET":
            value = {"ID": value}
        content = png((1, 2, 3)) if value is None else json.dumps(value).encode()
        return said(404 if route == "/ws" else 200, [], content.replace(b"ID", self.prompt_id.encode()))


def said(status: int, headers: list[bytes], body: bytes) -> bytes:
    if not any(header.startswith((b"Content-Length", b"Transfer")) for header in headers):
        headers = [*headers, b"Content-Length: %d" % len(body)]
    head = b"\r\n".join([b"HTTP/1.1 %d X" % status, b"Connection: close", *headers])
    return head + b"\r\n\r\n" + body


def shown_as(route: str) -> st.SearchStrategy[bytes]:
    """Bodies for a route: right ones, changed ones, and anything."""
    alike: st.SearchStrategy[Any] = ANYTHING
    if route == "/history":
        alike = st.sampled_from([HISTORY, FAILED]).flatmap(lambda one: changed({"ID": one}))
    elif route == "/prompt":
        alike = st.sampled_from([QUEUED, REFUSED]).flatmap(changed)
    elif RIGHT[route] is not None:
        alike = changed(RIGHT[route])
    texts = (alike | ANYTHING).map(lambda value: json.dumps(value).encode())
    return texts | st.binary(max_size=40) | st.sampled_from([b"", b"[" * 5000, b"NaN", b"{}"])


@st.composite
def oddities(draw: st.DrawFn) -> dict[str, tuple[int, list[bytes], bytes]]:
    routes = draw(st.lists(st.sampled_from(sorted(RIGHT)), max_size=3, unique=True))
    return {
        route: (
            draw(st.sampled_from([200, 200, 200, 400, 404, 500, 302, 204])),
            draw(st.lists(HEADERS, max_size=1)) if draw(st.booleans()) else [],
            draw(shown_as(route)),
        )
        for route in routes
    }


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WorkerUnderTest, Oddity]]:
    oddity = Oddity()
    with (
        conversing(oddity.talk) as server,
        remote_worker(
            server.address,
            tmp_path_factory.mktemp("remote"),
            COMFY_POLL_INTERVAL_S="0.05",
            WEBSOCKET_RECONNECT_ATTEMPTS="0",
            COMFY_INTERRUPT_TIMEOUT_S="0.2",
            COMFY_START_TIMEOUT_S="20",
            ALLOW_MODEL_DOWNLOADS="true",
        ) as running,
    ):
        yield running, oddity


def test_no_answer_of_comfyui_is_a_failure_of_the_worker(
    odd: tuple[WorkerUnderTest, Oddity],
) -> None:
    worker, oddity = odd
    timeout_s = 1.0
    bounds = Bounds(timeout_s + SLACK_S, MORE_BYTES, CHILD_BYTES)

    @settings(max_examples=examples(60))
    @given(oddities(), st.sampled_from(["api", "editor", "dry run", "with a file"]))
    def check(drawn: dict[str, tuple[int, list[bytes], bytes]], kind: str) -> None:
        request: Json = {"workflow": {"1": empty_image(), "2": saved_image()["2"]}}
        request["timeout_s"] = timeout_s
        if kind == "editor":
            request["workflow"] = EDITOR
        elif kind == "dry run":
            request["dry_run"] = True
        elif kind == "with a file":
            request["images"] = [{"name": "a.png", "image": _base64(png((1, 2, 3)))}]
        oddity.drawn = drawn
        with bounds.kept():
            result = worker.run(request)
        assert_answered(result)

    check()
    log.info("answers of ComfyUI: %s", bounds)
    oddity.drawn = {}
    assert [image["bytes"] for image in worker.run({"workflow": saved_image()})["images"]]


# --- buckets that answer anything


@pytest.mark.parametrize("way", ["s3Config", "signed"])
def test_no_answer_of_a_bucket_is_a_failure_of_the_worker(
    worker: WorkerUnderTest, elsewhere: Elsewhere, way: str
) -> None:
    bounds = Bounds(TIMEOUT_S + SLACK_S, MORE_BYTES, CHILD_BYTES)
    url = elsewhere.server.url
    keys = {"accessId": "an-access-id", "accessSecret": "an-access-secret"}

    @settings(max_examples=examples(30))
    @given(answers())
    def check(answer: bytes) -> None:
        elsewhere.answer = answer
        raw: Json = {}
        request: Json = {"workflow": saved_image()}
        if way == "signed":
            request["output"] = {"upload": {"images": [f"{url}/a?signature=s3cr3t-s1gnature"]}}
        else:
            raw["s3Config"] = {"endpointUrl": f"{url}/bucket", **keys}
        with bounds.kept():
            result = worker.run(request, **raw)
        assert_answered(result)
        assert len(result["images"]) == 1
        assert "an-access-secret" not in json.dumps(result)

    check()
    log.info("answers of buckets (%s): %s", way, bounds)
