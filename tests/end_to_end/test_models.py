"""Models by URL, and jobs for them, through the whole worker, from a stand-in for the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.test_commands import command
from tests.support.handler import Handler, running_endpoint
from tests.support.hub import Hub, safetensors
from tests.support.platform import ROOT, RunningPlatform
from tests.support.waiting import wait_until

NODES = ROOT / "tests" / "nodes"
STYLE = safetensors(200_000, seed=1)
OTHER = safetensors(100_000, seed=2)
TOKEN = "a-callers-own-token-0123456789"
COMFY_KEY = "comfyui-key-of-the-caller-42"


@dataclass
class Endpoint:
    """A platform, its worker and what models come from."""

    platform: RunningPlatform
    handler: Handler
    hub: Hub

    def output(self, sent: dict[str, Any]) -> dict[str, Any]:
        """The result of a job that completes."""
        job = self.platform.run_sync(sent)
        assert job["status"] == "COMPLETED", job
        found: dict[str, Any] = job["output"]
        return found

    def entry(self, name: str, query: str = "") -> dict[str, Any]:
        """Where a LoRA can be had."""
        url = f"{self.hub.url}/owner/pack/resolve/main/{name}{query}"
        return {"folder": "loras", "name": name, "url": url}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("models")
    hub = Hub(folder=folder / "hub", one_port=True)
    hub.add("owner/pack/style.safetensors", STYLE)
    hub.add("owner/pack/other.safetensors", OTHER)
    extra_nodes = (NODES / "fault_nodes.py", NODES / "model_nodes.py")
    with (
        hub.running(),
        running_endpoint(
            folder / "base",
            extra_nodes=extra_nodes,
            ALLOW_MODEL_DOWNLOADS="true",
            ALLOW_MODEL_JOBS="true",
            HF_ENDPOINT=hub.url,
            MODEL_STORE_PATH=str(folder / "store"),
            RUNPOD_VOLUME_PATH=str(folder / "no-volume"),
            LOG_LEVEL="DEBUG",
        ) as (platform, handler),
    ):
        yield Endpoint(platform, handler, hub)


def loading(name: str) -> dict[str, Any]:
    """A workflow that loads a LoRA, and says which."""
    return {"1": {"class_type": "PackLoraLoader", "inputs": {"weights": name}}}


def test_a_model_that_a_workflow_names_is_fetched_in_the_same_request(endpoint: Endpoint) -> None:
    sent = {
        "workflow": loading("style.safetensors"),
        "models": [endpoint.entry("style.safetensors")],
    }
    found = endpoint.output(sent)
    assert found["texts"] == [{"node_id": "1", "text": "style.safetensors"}]
    (model,) = found["models"]
    assert (model["name"], model["bytes"], model["from"]) == (
        "style.safetensors",
        len(STYLE),
        "fetched",
    )
    assert "models_ms" in found["timings"]
    # It is kept: the next job finds it, whatever it says of it.
    again = endpoint.output({"workflow": loading("style.safetensors")})
    assert again["texts"] == found["texts"]
    assert "models" not in again
    assert endpoint.hub.sent("owner/pack/style.safetensors") == len(STYLE)


def test_submitting_an_editor_s_file_is_enough(endpoint: Endpoint, tmp_path: Path) -> None:
    # As ComfyUI's templates: a loader node says where on Hugging Face its model is.
    name = "template.safetensors"
    endpoint.hub.add(f"owner/pack/{name}", OTHER)
    url = f"https://huggingface.co/owner/pack/resolve/main/{name}?download=true"
    loader = {
        "id": 1,
        "type": "PackLoraLoader",
        "pos": [0, 0],
        "size": [300, 60],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {"models": [{"name": name, "url": url, "directory": "loras"}]},
        "widgets_values": [name],
    }
    graph = {"nodes": [loader], "links": [], "groups": [], "version": 0.4, "last_link_id": 0}
    (tmp_path / "template.json").write_text(json.dumps({**graph, "last_node_id": 1}))
    text = command("submit", "template.json", "--endpoint", endpoint.platform.url, folder=tmp_path)
    assert f"Fetched loras/{name}  (100.0 kB)" in text
    assert endpoint.hub.sent(f"owner/pack/{name}") == len(OTHER)


def test_a_dry_run_says_what_would_be_fetched(endpoint: Endpoint) -> None:
    sent = {"workflow": loading("unseen.safetensors"), "dry_run": True}
    found = endpoint.output({**sent, "models": [endpoint.entry("unseen.safetensors")]})
    assert [model["status"] for model in found["models"]] == ["would be fetched"]
    assert found["problems"] == []
    found = endpoint.output(sent)
    assert [model["status"] for model in found["models"]] == ["missing"]
    assert found["problems"][0]["received"] == "unseen.safetensors"


def test_a_dry_run_says_which_models_the_run_would_refuse(tmp_path: Path) -> None:
    url = "hf://owner/pack/style.safetensors"
    sent = {
        "workflow": loading("style.safetensors"),
        "models": [{"folder": "loras", "name": "style.safetensors", "url": url}],
    }
    nodes = (NODES / "model_nodes.py",)
    # Without ALLOW_MODEL_DOWNLOADS.
    with running_endpoint(tmp_path, extra_nodes=nodes) as (platform, _):
        found = platform.run_sync({**sent, "dry_run": True})["output"]
        job = platform.run_sync(sent)
    assert job["output"]["error_code"] == "MODEL_REFUSED"
    assert found["problems"] == job["output"]["details"]
    assert "ALLOW_MODEL_DOWNLOADS" in found["problems"][0]["message"]
    assert [model["status"] for model in found["models"]] == ["missing"]


def test_a_model_that_is_not_there_is_an_error_that_names_the_node(endpoint: Endpoint) -> None:
    entry = endpoint.entry("gone.safetensors")
    job = endpoint.platform.run_sync({"workflow": loading("gone.safetensors"), "models": [entry]})
    assert job["output"]["error_code"] == "MODEL_REFUSED", job
    assert "gone.safetensors" in job["error"]


def test_jobs_for_the_models_need_no_workflow(endpoint: Endpoint) -> None:
    fetched = endpoint.output({"models": "fetch", "entries": [endpoint.entry("other.safetensors")]})
    assert [file["name"] for file in fetched["models"]["files"]] == ["other.safetensors"]
    listed = endpoint.output({"models": "list"})["models"]
    assert listed["action"] == "list"
    assert "other.safetensors" in {file["name"] for file in listed["files"]}
    checked = endpoint.output({"models": "verify", "timeout_s": 60})["models"]
    assert checked["damaged"] == 0
    name = "loras/other.safetensors"
    deleted = endpoint.output({"models": "delete", "names": [name]})["models"]
    assert deleted["files"] == [{"folder": "loras", "name": "other.safetensors", "ok": True}]


def test_a_job_for_the_models_waits_for_no_workflow(tmp_path: Path) -> None:
    sleep = {"1": {"class_type": "TestSleepOutput", "inputs": {"seconds": 60}}}
    with running_endpoint(
        tmp_path / "base",
        ALLOW_MODEL_JOBS="true",
        MODEL_STORE_PATH=str(tmp_path / "store"),
        WORKER_CONCURRENCY="2",
    ) as (platform, _):
        busy = platform.run({"workflow": sleep})
        platform.wait_for(busy, lambda job: "output" in job)
        answer = platform.run_sync({"models": "usage"})
        assert answer["output"]["models"]["files"] == 0
        assert platform.status(busy)["status"] == "IN_PROGRESS"
        platform.post(f"/cancel/{busy}")


def test_they_are_refused_unless_the_operator_wants_them(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as (platform, _):
        job = platform.run_sync({"models": "list"})
        assert job["output"]["error_code"] == "INVALID_REQUEST"
        assert "ALLOW_MODEL_JOBS" in job["error"]


def test_a_wrong_job_for_the_models_is_refused(endpoint: Endpoint) -> None:
    job = endpoint.platform.run_sync({"models": "polish"})
    assert job["output"]["error_code"] == "INVALID_REQUEST"
    assert "list, usage, verify, fetch, delete" in job["error"]


def test_a_callers_tokens_stand_in_no_log_and_no_result(endpoint: Endpoint) -> None:
    entry = endpoint.entry("style.safetensors", f"?token={TOKEN}")
    gone = endpoint.entry("gone.safetensors", f"?token={TOKEN}")
    url = f"{endpoint.hub.url}/owner/pack/resolve/main/gone.safetensors?token={TOKEN}"
    print_it = {"class_type": "TestPrint", "inputs": {"text": COMFY_KEY, "count": 1}}
    extra = {"api_key_comfy_org": COMFY_KEY}
    common = {"extra_data": extra, "output": {"workflow": True}}
    jobs = [
        {"workflow": loading("style.safetensors"), "models": [entry], **common},
        {"workflow": loading("gone.safetensors"), "models": [gone], **common},
        {"workflow": loading(url), **common},
        {"workflow": loading(url), "dry_run": True},
        {"workflow": loading("x"), "overrides": {"1.weights": url}, **common},
        {"workflow": {**loading("None"), "2": print_it}, "overrides": {}, **common},
        {"models": "fetch", "entries": [entry, gone]},
        {"models": "list"},
    ]
    ended = [endpoint.platform.run_sync(job) for job in jobs]
    assert {job["status"] for job in ended} == {"COMPLETED", "FAILED"}
    said = json.dumps(ended)
    done = [job["id"] for job in ended]
    wait_until(lambda: done[-1] in endpoint.handler.log())
    for secret in (TOKEN, COMFY_KEY):
        assert secret not in said
        assert secret not in endpoint.handler.log()
