"""Whatever is sent, stored, answered or decoded: a job ends in time, in bounds, and with a code.

Each test draws whole jobs and runs them on the stand-in, or on a ComfyUI that answers anything.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.any_comfyui import Drawn, OddComfyUI, drawn_answers
from tests.support.any_request import EDITOR, as_base64, outputs, requests_for
from tests.support.anything import (
    Elsewhere,
    Json,
    answering,
    answers,
    damaged,
    model_answers,
)
from tests.support.bounds import MEGA, Bounds, assert_answered, examples
from tests.support.raw_server import conversing
from tests.support.worker import WorkerUnderTest, remote_worker, running_worker, worker_is_clean
from tests.support.workflows import empty_image, node, png, saved_image, saved_input
from worker_comfyui.delivery import presigned, s3
from worker_comfyui.models.transfer import requests
from worker_comfyui.request import download

log = logging.getLogger(__name__)

TIMEOUT_S = 6.0
SLACK_S = 15.0
"""After the deadline, on a machine that does other things as well."""
MORE_BYTES = 400 * MEGA
"""What one job may take of the worker's memory; what is drawn here has a megabyte at most."""
MEGAPIXELS = 20
"""The worker's MAX_INPUT_MEGAPIXELS: what ComfyUI takes follows from it (docs/configuration.md)."""
CHILD_BYTES = 1500 * MEGA
"""What ComfyUI or a decoder may take: ComfyUI about 40 MB a megapixel beside its own start, and a
decoder that converts 24 bytes a pixel and 512 MB."""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat what failed at once: waiting shows nothing."""
    monkeypatch.setattr(download, "RETRY_PAUSES_S", (0.01,))
    monkeypatch.setattr(presigned, "PAUSES_S", (0.01,))
    monkeypatch.setattr(s3, "PAUSES_S", (0.01,))


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with answering() as running:
        yield running


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
        MAX_INPUT_MEGAPIXELS=str(MEGAPIXELS),
    ) as running:
        yield running


def test_no_request_is_a_failure_of_the_worker(
    worker: WorkerUnderTest, elsewhere: Elsewhere
) -> None:
    bounds = Bounds(TIMEOUT_S + SLACK_S, MORE_BYTES, CHILD_BYTES)

    @settings(max_examples=examples(40))
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

    @settings(max_examples=examples(40))
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
            made = json.dumps({name: as_base64(data)})
            shown = json.dumps({"images": [{"filename": name, "subfolder": "", "type": "output"}]})
            request["workflow"] = {"1": node("TestOutput", ui=shown, files=made)}
        else:
            request[group] = [{"name": name, "data": as_base64(data)}]
        with bounds.kept():
            result = worker.run(request)
        assert_answered(result)

    check()
    log.info("pictures: %s", bounds)
    assert worker_is_clean(worker)


# --- a ComfyUI that answers anything


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WorkerUnderTest, OddComfyUI]]:
    oddity = OddComfyUI()
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
    odd: tuple[WorkerUnderTest, OddComfyUI],
) -> None:
    worker, oddity = odd
    timeout_s = 1.0
    bounds = Bounds(timeout_s + SLACK_S, MORE_BYTES, CHILD_BYTES)

    @settings(max_examples=examples(40))
    @given(drawn_answers(), st.sampled_from(["api", "editor", "dry run", "with a file"]))
    def check(drawn: Drawn, kind: str) -> None:
        request: Json = {"workflow": {"1": empty_image(), "2": saved_image()["2"]}}
        request["timeout_s"] = timeout_s
        if kind == "editor":
            request["workflow"] = EDITOR
        elif kind == "dry run":
            request["dry_run"] = True
        elif kind == "with a file":
            request["images"] = [{"name": "a.png", "image": as_base64(png((1, 2, 3)))}]
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

    @settings(max_examples=examples(5))
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
        assert result.get("error_code") == "TIMED_OUT" or len(result["images"]) == 1
        assert "an-access-secret" not in json.dumps(result)

    check()
    log.info("answers of buckets (%s): %s", way, bounds)


# --- hosts of models that answer anything


@pytest.fixture(scope="module")
def with_a_hub(
    tmp_path_factory: pytest.TempPathFactory, elsewhere: Elsewhere
) -> Iterator[WorkerUnderTest]:
    base = tmp_path_factory.mktemp("hub")
    with running_worker(
        base,
        HF_ENDPOINT=elsewhere.server.url,
        CIVITAI_ENDPOINT=elsewhere.server.url,
        HF_TOKEN="hf_a-token-of-the-operator",
        ALLOW_MODEL_DOWNLOADS="true",
        ALLOW_MODEL_JOBS="true",
        MODEL_STORE_PATH=str(base / "store"),
        JOB_TIMEOUT_S=str(TIMEOUT_S),
    ) as running:
        yield running


ADDRESSES = (
    "https://huggingface.co/a/b/resolve/main/c.safetensors",
    "https://huggingface.co/a/b",
    "https://civitai.com/api/download/models/7",
    "https://civitai.com/models/7",
)


def test_no_answer_of_a_model_s_host_is_a_failure_of_the_worker(
    with_a_hub: WorkerUnderTest, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests.Patience.__init__, "__defaults__", ((0.01,),))
    bounds = Bounds(TIMEOUT_S + SLACK_S, MORE_BYTES, CHILD_BYTES)

    @settings(max_examples=examples(8))
    @given(answers() | model_answers(), st.sampled_from(ADDRESSES))
    def check(answer: bytes, url: str) -> None:
        elsewhere.answer = answer
        entry = {"folder": "loras", "name": "c.safetensors", "url": url}
        with bounds.kept():
            result = with_a_hub.run({"models": "fetch", "entries": [entry]})
        assert_answered(result)
        assert "hf_a-token" not in json.dumps(result)

    check()
    log.info("answers of models' hosts: %s", bounds)
