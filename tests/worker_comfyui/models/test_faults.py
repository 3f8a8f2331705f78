"""Every fault of a hub, from the request to the result, on a worker and a ComfyUI that run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import Hub, safetensors
from tests.support.platform import ROOT
from tests.support.transfers import at_civitai
from tests.support.waiting import wait_until
from tests.support.worker import WorkerUnderTest, running_worker
from worker_comfyui.models.transfer.terms import Means

NODES = (ROOT / "tests" / "nodes" / "model_nodes.py",)
PIECE = 1 << 16
SIZE = 600_000
CONTENT = safetensors(SIZE)
LARGE = safetensors(10_000_000)
SLOWLY = 200_000
"""Bytes a second over each of eight connections: several seconds for what is large."""
TOKEN = "hf_the-operators-own-token-0123456789"
CIVITAI_TOKEN = "civitai-operators-own-token-0123456789"
KEY = "owner/pack/style.safetensors"
ALWAYS = 1000


@dataclass
class Endpoint:
    """A worker and the hub that it fetches from."""

    worker: WorkerUnderTest
    hub: Hub

    def request(self, **more: Any) -> dict[str, Any]:
        """A request whose workflow names a LoRA, with where it can be had."""
        name = Path(KEY).name
        node = {"class_type": "PackLoraLoader", "inputs": {"weights": name}}
        entry = {"folder": "loras", "name": name, "url": f"hf://{KEY}"}
        return {"workflow": {"1": node}, "models": [entry], **more}

    def refused(self, **more: Any) -> dict[str, Any]:
        """The error of such a request, after which ComfyUI lists no LoRA and the hub is well."""
        error = self.worker.run(self.request(**more))
        assert "error" in error, error
        assert self.listed() == []
        assert TOKEN not in str(error)
        assert CIVITAI_TOKEN not in str(error)
        return error

    def model(self, size: int = SIZE) -> dict[str, Any]:
        """What the result of such a request, which ran, says of the model."""
        result = self.worker.run(self.request())
        assert result.get("texts") == [{"node_id": "1", "text": "style.safetensors"}], result
        (model,) = result["models"]
        assert model["bytes"] == size
        return dict(model)

    def listed(self) -> list[str]:
        """What ComfyUI lists."""
        found: list[str] = self.worker.comfyui("/models/loras")
        return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("faults")
    hub = Hub(folder=folder / "hub", one_port=True)
    defaults = Means.__init__.__kwdefaults__ or {}
    with pytest.MonkeyPatch.context() as patch, hub.running():
        patch.setitem(defaults, "pauses_s", (0.01, 0.01, 0.01))
        patch.setitem(defaults, "piece_bytes", PIECE)
        with running_worker(
            folder / "base",
            NODES,
            ALLOW_MODEL_DOWNLOADS="true",
            ALLOW_MODEL_JOBS="true",
            HF_ENDPOINT=hub.url,
            HF_TOKEN=TOKEN,
            CIVITAI_ENDPOINT=at_civitai(hub),
            CIVITAI_TOKEN=CIVITAI_TOKEN,
            MODEL_STORE_PATH=str(folder / "store"),
            RUNPOD_VOLUME_PATH=str(folder / "no-volume"),
        ) as worker:
            yield Endpoint(worker, hub)


@pytest.fixture
def endpoint(running: Endpoint) -> Iterator[Endpoint]:
    """One whose hub is well, and whose store is empty."""
    running.hub.add(KEY, CONTENT)
    yield running
    for faults in FAULTS:
        getattr(running.hub, faults).clear()
    running.hub.bytes_per_s = running.hub.known_tokens = running.hub.links_valid_for = None
    running.hub.sent(KEY)  # waits for what is still noted of the test
    running.hub.served.clear()
    if running.listed():
        running.worker.run({"models": "delete", "names": ["loras/style.safetensors"]})
    for left in (running.worker.base.parent / "store" / "partial").glob("*/*/*"):
        left.unlink()
    assert running.listed() == []


FAULTS = (
    "gated",
    "cut",
    "damaged",
    "announced_sha256",
    "announced_size",
    "answers",
    "stalls",
    "refuse_after",
    "pages",
    "without_ranges",
    "elsewhere",
)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"gated": {"owner/pack": "another"}}, "accept the terms at https://huggingface.co/owner"),
        ({"known_tokens": {"another"}}, "does not know the token in HF_TOKEN"),
        ({"pages": {KEY}}, "gives a web page"),
        ({"elsewhere": {KEY: "https://127.0.0.1/x"}}, "has an address that is not public"),
        ({"elsewhere": {KEY: "http://8.8.8.8/x"}}, "fetched by https only"),
        ({"elsewhere": {KEY: "/owner/pack/resolve/main/style.safetensors"}}, "more than 8 times"),
        ({"announced_sha256": {KEY: "ab" * 32}}, "arrived damaged: SHA-256"),
        ({"damaged": {KEY}}, "arrived damaged: SHA-256"),
        ({"announced_size": {KEY: SIZE + 1}}, f"the hub says {SIZE + 1} bytes"),
        ({"announced_size": {KEY: SIZE - 1}}, f"the hub says {SIZE - 1} bytes"),
    ],
)
def test_a_hub_that_refuses_or_lies_is_an_error_that_says_what_to_do(
    endpoint: Endpoint, fault: dict[str, Any], sentence: str
) -> None:
    for name, value in fault.items():
        setattr(endpoint.hub, name, value)
    error = endpoint.refused()
    assert error["error_code"] == "MODEL_REFUSED", error
    assert error["retryable"] is False
    assert sentence in error["error"], error
    assert "node 1 (PackLoraLoader)" in error["error"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (CONTENT[:-1], "is cut off"),
        (CONTENT + b"x", "followed by something else"),
        (b"<html>" + CONTENT, "a web page or an XML error instead of a model"),
        (b"PK\x03\x04" + CONTENT, "is not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_model_is_refused(endpoint: Endpoint, content: bytes, sentence: str) -> None:
    endpoint.hub.add(KEY, content)
    error = endpoint.refused()
    assert error["error_code"] == "MODEL_REFUSED", error
    assert sentence in error["error"], error


def test_what_the_hub_does_not_have_is_named(endpoint: Endpoint) -> None:
    (endpoint.hub.folder / KEY).unlink()
    error = endpoint.refused()
    assert error["error_code"] == "MODEL_REFUSED", error
    assert "style.safetensors is not on the hub" in error["error"]


@pytest.mark.parametrize(
    "fault",
    [
        {"answers": {"cdn:": [(429, {"Retry-After": "0"})] * 3}},
        {"answers": {"resolve": [(429, {"RateLimit": '"resolvers";r=0;t=0'})] * 2}},
        {"answers": {"cdn:": [(503, {})] * 3}},
        {"links_valid_for": 3},  # and then 403
        {"cut": {KEY: [1000] * 8}},
        {"cut": {KEY: [0, 1, 40_000]}},
        {"without_ranges": {KEY}},
    ],
)
def test_a_hub_that_stumbles_is_asked_again_and_the_job_runs(
    endpoint: Endpoint, fault: dict[str, Any]
) -> None:
    for name, value in fault.items():
        setattr(endpoint.hub, name, value)
    model = endpoint.model()
    assert (model["from"], model["received_bytes"]) == ("fetched", SIZE)
    assert endpoint.listed() == ["style.safetensors"]


def test_a_connection_that_freezes_is_made_anew(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Means.__init__.__kwdefaults__ or {}, "stall_s", 1.0)
    endpoint.hub.stalls[KEY] = 3
    assert endpoint.model()["from"] == "fetched"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"answers": {"cdn:": [(429, {})] * ALWAYS}}, "answered 429"),
        ({"answers": {"resolve": [(503, {})] * ALWAYS}}, "answered 503"),
        ({"cut": {KEY: [0] * ALWAYS}}, "broke off"),
    ],
)
def test_a_hub_that_stays_away_is_an_error_that_can_be_tried_again(
    endpoint: Endpoint, fault: dict[str, Any], sentence: str
) -> None:
    for name, value in fault.items():
        setattr(endpoint.hub, name, value)
    error = endpoint.refused()
    assert error["error_code"] == "MODEL_UNAVAILABLE", error
    assert error["retryable"] is True
    assert sentence in error["error"], error
    for name, value in fault.items():
        setattr(endpoint.hub, name, type(value)())
    assert endpoint.model()["from"] == "fetched"


def test_a_hub_that_dies_in_the_middle_is_gone_on_with_by_the_next_job(endpoint: Endpoint) -> None:
    endpoint.hub.refuse_after[KEY] = 4 * PIECE
    error = endpoint.refused()
    assert error["error_code"] == "MODEL_UNAVAILABLE", error
    assert "what came so far is kept" in error["error"]
    came = endpoint.hub.sent(KEY)
    assert came >= 4 * PIECE
    endpoint.hub.refuse_after.clear()
    assert endpoint.model()["received_bytes"] <= SIZE - 4 * PIECE
    assert endpoint.hub.sent(KEY) == SIZE


def test_a_hub_that_is_too_slow_for_the_job_s_time_is_gone_on_with_by_the_next_job(
    endpoint: Endpoint,
) -> None:
    endpoint.hub.add(KEY, LARGE)
    endpoint.hub.bytes_per_s = SLOWLY
    error = endpoint.refused(timeout_s=3)
    assert error["error_code"] == "TIMED_OUT", error
    wait_for_no_threads()
    endpoint.hub.bytes_per_s = None
    assert endpoint.model(len(LARGE))["received_bytes"] < len(LARGE)


def test_a_cancelled_job_ends_at_once_and_its_bytes_are_kept(endpoint: Endpoint) -> None:
    endpoint.hub.add(KEY, LARGE)
    endpoint.hub.bytes_per_s = SLOWLY
    job = endpoint.worker.start(endpoint.request())
    wait_until(lambda: any("fetching style.safetensors, " in str(said) for said in job.updates))
    job.cancel()
    assert job.was_cancelled(2)
    wait_for_no_threads()
    assert endpoint.listed() == []
    endpoint.hub.bytes_per_s = None
    assert endpoint.model(len(LARGE))["received_bytes"] < len(LARGE)


def test_civitai_s_login_page_is_no_model_and_its_token_goes_no_further(
    endpoint: Endpoint,
) -> None:
    file = {"id": 7, "name": "style.safetensors", "primary": True, "path": KEY}
    endpoint.hub.civitai["6"] = {"files": [file], "model": {"type": "LORA"}}
    endpoint.hub.civitai_token = "another"
    models = [{"folder": "loras", "name": "style.safetensors", "url": "civitai://6"}]
    error = endpoint.refused(models=models)
    assert error["error_code"] == "MODEL_REFUSED", error
    assert "CIVITAI_TOKEN is wrong or expired" in error["error"]
    endpoint.hub.civitai_token = CIVITAI_TOKEN
    result = endpoint.worker.run(endpoint.request(models=models))
    assert result["models"][0]["from"] == "fetched"
    shown = {asked.is_cdn for asked in endpoint.hub.asked if CIVITAI_TOKEN in str(asked)}
    assert shown == {False}


def wait_for_no_threads() -> None:
    """See that none goes on by itself: one may just write its last piece."""
    wait_until(lambda: not any(t.name.startswith("model") for t in threading.enumerate()))
