"""Jobs for the store: what is there, whether it is whole, more of it, less of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import Hub, safetensors
from worker_comfyui.config import Settings
from worker_comfyui.errors import InvalidRequest, ModelRefused
from worker_comfyui.models.service import Models

SMALL = safetensors(100_000)
X = {"folder": "loras", "name": "x.safetensors", "url": "hf://a/b/x.safetensors"}
Y = {"folder": "vae", "name": "y.safetensors", "url": "hf://a/b/y.safetensors"}


class Jobs:
    """A worker that takes these jobs."""

    def __init__(self, hub: Hub, tmp_path: Path, **more: Any) -> None:
        self.said: list[str] = []
        self._models = Models(
            Settings(
                **{
                    "hf_endpoint": hub.url,
                    "allow_model_jobs": True,
                    "allow_model_downloads": True,
                    "model_store_path": tmp_path / "store",
                    **more,
                }
            )
        )

    def run(self, action: str, **more: Any) -> dict[str, Any]:
        """Run one job; return its answer."""
        answer = self._models.run_job({"models": action, **more}, lambda: None, self.said.append)
        assert list(answer) == ["models"]
        assert answer["models"].pop("action") == action
        found: dict[str, Any] = answer["models"]
        return found


@pytest.fixture
def jobs(hub: Hub, tmp_path: Path) -> Jobs:
    hub.add("a/b/x.safetensors", SMALL)
    hub.add("a/b/y.safetensors", SMALL)
    return Jobs(hub, tmp_path)


def test_an_empty_store_is_an_answer_too(jobs: Jobs, tmp_path: Path) -> None:
    assert jobs.run("list") == {"store": str(tmp_path / "store"), "files": []}
    assert jobs.run("verify") == {"files": [], "damaged": 0}
    usage = jobs.run("usage")
    assert (usage["files"], usage["bytes"], usage["unfinished_bytes"]) == (0, 0, 0)


def test_models_are_fetched_listed_counted_checked_and_deleted(jobs: Jobs, tmp_path: Path) -> None:
    fetched = jobs.run("fetch", entries=[X, Y])
    assert [(f["folder"], f["name"], f["from"]) for f in fetched["files"]] == [
        ("loras", "x.safetensors", "fetched"),
        ("vae", "y.safetensors", "fetched"),
    ]
    [first, second] = jobs.run("list")["files"]
    assert first["name"] == "x.safetensors"
    assert first["bytes"] == 100_000
    assert len(first["sha256"]) == 64
    assert first["in_use"] is False
    assert first["used_at"].startswith("20")
    assert second["folder"] == "vae"
    usage = jobs.run("usage")
    assert (usage["files"], usage["bytes"], usage["limit_bytes"]) == (2, 200_000, None)
    assert jobs.run("verify")["damaged"] == 0
    path = tmp_path / "store" / "models" / "loras" / "x.safetensors"
    path.write_bytes(SMALL[::-1])
    checked = jobs.run("verify", names=["loras/x.safetensors", "vae/gone.safetensors"])
    assert checked == {
        "files": [
            {
                "folder": "vae",
                "name": "gone.safetensors",
                "ok": False,
                "problem": "it is not in the store",
            },
            {
                "folder": "loras",
                "name": "x.safetensors",
                "ok": False,
                "problem": "its content has changed: delete and fetch it again",
            },
        ],
        "damaged": 2,
    }
    assert "checking loras/x.safetensors, 1 of 1, 0.1 MB" in jobs.said
    foreign = path.with_name("mine.safetensors")
    foreign.write_bytes(SMALL)
    deleted = jobs.run("delete", names=["loras/x.safetensors", "loras/mine.safetensors"])
    assert [file["ok"] for file in deleted["files"]] == [True, False]
    assert deleted["files"][1]["problem"] == "it is not one of the store's own files"
    assert not path.exists()
    assert foreign.exists()
    assert [file["name"] for file in jobs.run("list")["files"]] == ["y.safetensors"]


def test_a_model_in_use_is_not_deleted(hub: Hub, jobs: Jobs) -> None:
    del hub
    jobs.run("fetch", entries=[X])
    store = jobs._models._store
    with store.use() as use:
        use.add("loras/x.safetensors")
        [answer] = jobs.run("delete", names=["loras/x.safetensors"])["files"]
        assert answer["problem"] == "a job uses it now: try again later"
    [answer] = jobs.run("delete", names=["loras/x.safetensors"])["files"]
    assert answer["ok"]


def test_without_entries_the_operator_s_catalogue_is_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/b/x.safetensors", SMALL)
    catalogue = "- {folder: loras, name: x.safetensors, url: 'hf://a/b/x.safetensors'}\n"
    jobs = Jobs(hub, tmp_path, model_catalog=catalogue, allow_model_downloads=False)
    assert [file["name"] for file in jobs.run("fetch")["files"]] == ["x.safetensors"]
    with pytest.raises(ModelRefused, match="ALLOW_MODEL_DOWNLOADS=true"):
        jobs.run("fetch", entries=[Y])


def test_what_could_not_be_fetched_is_said_beside_what_was(jobs: Jobs) -> None:
    gone = {**Y, "url": "hf://a/b/gone.safetensors"}
    answer = jobs.run("fetch", entries=[X, gone])
    assert len(answer["files"]) == 1
    [error] = answer["errors"]
    assert error.startswith("vae/y.safetensors: a/b: gone.safetensors is not on the hub; see ")


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ({"models": "lst"}, "models must be one of list, usage, verify, fetch, delete, or a list"),
        ({"models": "list", "names": []}, "names is unknown beside `models`"),
        ({"models": "delete"}, "names must name what to delete"),
        ({"models": "delete", "names": "x"}, "names must be a list of at most 2000 names like"),
        ({"models": "fetch", "entries": [{}]}, r"entries\[0\]\.folder must be the name of"),
    ],
)
def test_a_wrong_job_is_refused_with_the_path(
    jobs: Jobs, sent: dict[str, Any], problem: str
) -> None:
    action = sent.pop("models")
    with pytest.raises(InvalidRequest, match=problem):
        jobs.run(action, **sent)


def test_these_jobs_are_off_unless_the_operator_wants_them(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="its operator can set ALLOW_MODEL_JOBS=true"):
        Jobs(hub, tmp_path, allow_model_jobs=False).run("list")
