"""The downloader, run as people and the image's build run it, against a stand-in for the hub."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.downloads import Downloads
from models.items import Item, Shortage
from tests.support.hub import COMMIT, Hub, safetensors
from tests.support.waiting import wait_until
from worker_comfyui.models.transfer.rules import Tokens

ROOT = Path(__file__).parents[2]
LARGE = safetensors(1_000_000)
STEP = 8 << 20
"""What one request asks for, and so what is lost at most when the program is killed."""
HUGE = safetensors(3 * STEP)
VAE = safetensors(200, seed=1)
TOKEN = "hf_made_up_for_this_test"

QUICK = (
    "import sys, models.download as program, models.downloads as means; "
    "means.PAUSES_S = (0.01,) * 3; sys.exit(program.main())"
)
"""The program, which otherwise waits a few minutes for a hub that is away."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(folder=tmp_path / "hub", one_port=True).running() as running:
        yield running


@pytest.fixture
def environ(hub: Hub, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "src"),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf-home"),
    }


def entry(repository: str, path: str | None, destination: str, **more: Any) -> dict[str, Any]:
    named = {"path": path} if path else {}
    size = {} if "bytes" in more else {"bytes_about": 1}
    return {"repository": repository, "destination": destination, **named, **size, **more}


def command(tmp_path: Path, files: list[dict[str, Any]]) -> list[str]:
    variant = {"title": "Made up", "licence": "None", "workflow": "made-up.json", "files": files}
    listed = tmp_path / "variants.json"
    listed.write_text(json.dumps({"variants": {"made-up": variant}}))
    return [
        *(sys.executable, "-c", QUICK, "made-up"),
        *("--to", str(tmp_path / "models"), "--list", str(listed)),
    ]


@pytest.fixture
def download(environ: dict[str, str], tmp_path: Path) -> Run:
    def run(files: list[dict[str, Any]], **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(tmp_path, files),
            env=environ | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_files_arrive_checked_under_their_own_names(
    hub: Hub, download: Run, tmp_path: Path
) -> None:
    digest = hub.add("a/b/model.safetensors", LARGE)
    hub.add("a/c/sub/vae.safetensors", VAE)
    result = download(
        [
            entry("a/b", "model.safetensors", "checkpoints/m.safetensors", bytes=len(LARGE))
            | {"sha256": digest, "revision": COMMIT},
            entry("a/c", "sub/vae.safetensors", "vae/renamed.safetensors"),
        ]
    )
    assert result.returncode == 0, result.stderr
    assert files_below(tmp_path / "models") == {
        "checkpoints/m.safetensors": LARGE,
        "vae/renamed.safetensors": VAE,
    }
    assert "Licence: None" in result.stderr
    assert "2 files, 1.0 MB, to " in result.stderr
    assert "note: a/c is pinned to no revision" in result.stderr
    assert "All 2 files are there and checked" in result.stderr
    assert "Next: " in result.stderr


def test_a_second_run_downloads_nothing(hub: Hub, download: Run) -> None:
    hub.add("a/b/model.safetensors", LARGE)
    files = [entry("a/b", "model.safetensors", "loras/model.safetensors")]
    assert download(files).returncode == 0
    hub.served.clear()
    again = download(files)
    assert again.returncode == 0
    assert "1 were before" in again.stderr
    assert hub.all_sent() == 0


def test_a_whole_repository_keeps_its_folders(hub: Hub, download: Run, tmp_path: Path) -> None:
    hub.add("a/whole/config.json", b"{}")
    hub.add("a/whole/parts/1.safetensors", LARGE)
    result = download([entry("a/whole", None, "Whole-NF4")])
    assert result.returncode == 0, result.stderr
    assert files_below(tmp_path / "models") == {
        "Whole-NF4/config.json": b"{}",
        "Whole-NF4/parts/1.safetensors": LARGE,
    }


def test_a_gated_file_without_a_token_fails_before_anything_is_downloaded(
    hub: Hub, download: Run
) -> None:
    hub.add("a/open/model.safetensors", VAE)
    hub.add("a/gated/model.safetensors", VAE)
    result = download(
        [
            entry("a/open", "model.safetensors", "loras/open.safetensors"),
            entry("a/gated", "model.safetensors", "loras/gated.safetensors", gated=True),
        ]
    )
    assert result.returncode == 1
    assert "a/gated can be read with a token only" in result.stderr
    assert "https://huggingface.co/a/gated" in result.stderr
    assert "set HF_TOKEN" in result.stderr
    assert hub.all_sent() == 0


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGINGFACE_ACCESS_TOKEN"])
def test_a_gated_file_is_read_with_the_token_which_is_never_printed(
    hub: Hub, download: Run, tmp_path: Path, name: str
) -> None:
    hub.add("a/gated/model.safetensors", VAE)
    hub.gated["a/gated"] = TOKEN
    files = [entry("a/gated", "model.safetensors", "loras/gated.safetensors", gated=True)]
    result = download(files, **{name: TOKEN})
    assert result.returncode == 0, result.stderr
    assert files_below(tmp_path / "models") == {"loras/gated.safetensors": VAE}
    assert TOKEN not in result.stdout + result.stderr


def test_a_token_without_the_right_says_which_terms_to_accept(hub: Hub, download: Run) -> None:
    hub.add("a/gated/model.safetensors", VAE)
    hub.gated["a/gated"] = TOKEN
    files = [entry("a/gated", "model.safetensors", "loras/gated.safetensors", gated=True)]
    result = download(files, HF_TOKEN="hf_of_somebody_else")
    assert result.returncode == 1
    assert "was refused (403): accept the terms at https://huggingface.co/a/gated" in result.stderr
    assert "hf_of_somebody_else" not in result.stderr


def test_a_file_that_became_gated_asks_for_a_token(hub: Hub, download: Run) -> None:
    hub.add("a/gated/model.safetensors", VAE)
    hub.gated["a/gated"] = TOKEN
    result = download([entry("a/gated", "model.safetensors", "loras/gated.safetensors")])
    assert result.returncode == 1
    assert "model.safetensors needs a token: accept the terms" in result.stderr


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (entry("a/b", "gone.safetensors", "x"), "a/b: gone.safetensors is not on the hub; see"),
        (
            entry("a/gone", "m.safetensors", "x"),
            "a/gone: m.safetensors is not on the hub: no such repository, or it is private",
        ),
        (
            entry("a/b", "m.safetensors", "x", revision="f" * 40),
            f"the hub does not have the revision {'f' * 40}",
        ),
        (
            entry("a/gone", None, "x"),
            "a/gone is not on the hub: no such repository, or it is private and HF_TOKEN is not",
        ),
    ],
)
def test_what_is_missing_is_named(
    hub: Hub, download: Run, file: dict[str, Any], sentence: str
) -> None:
    hub.add("a/b/m.safetensors", VAE)
    result = download([file])
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_was_replaced_is_noticed_before_it_is_downloaded(
    hub: Hub, download: Run
) -> None:
    hub.add("a/b/m.safetensors", LARGE)
    for pinned in ({"bytes": 5}, {"bytes": len(LARGE), "sha256": "0" * 64}):
        result = download([entry("a/b", "m.safetensors", "x", **pinned)])
        assert result.returncode == 1
        assert "the file was replaced, or the list is wrong" in result.stderr
    assert hub.all_sent() == 0


def test_a_connection_that_breaks_once_is_taken_up_where_it_broke(
    hub: Hub, download: Run, tmp_path: Path
) -> None:
    hub.add("a/b/m.safetensors", HUGE)
    hub.cut["a/b/m.safetensors"] = [STEP + 300_000]
    result = download([entry("a/b", "m.safetensors", "loras/m.safetensors")])
    assert result.returncode == 0, result.stderr
    assert files_below(tmp_path / "models") == {"loras/m.safetensors": HUGE}
    assert hub.sent("a/b/m.safetensors") == len(HUGE)


def test_a_download_that_was_killed_goes_on_where_it_stopped(
    hub: Hub, environ: dict[str, str], download: Run, tmp_path: Path
) -> None:
    name, content = "a/b/m.safetensors", safetensors(8 * STEP)
    hub.add(name, content)
    # Two pieces come, with those that are asked for beside them; no more until it is killed.
    hub.bytes_per_s, hub.refuse_after[name] = STEP, 2 * STEP
    files = [entry("a/b", "m.safetensors", "loras/m.safetensors")]
    with subprocess.Popen(
        command(tmp_path, files), env=environ, stderr=subprocess.DEVNULL
    ) as process:
        wait_until(lambda: not hub.at_once and hub.sent_so_far(name) >= 2 * STEP)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "models" / "loras").exists()
    hub.bytes_per_s = None
    hub.refuse_after.clear()
    before = hub.sent(name)
    assert before < len(content)
    result = download(files)
    assert result.returncode == 0, result.stderr
    assert files_below(tmp_path / "models") == {"loras/m.safetensors": content}
    # What came is kept, but for the piece that was just being written.
    assert hub.sent(name) - before <= len(content) - before + STEP


def test_a_truncated_file_is_never_taken_for_a_whole_one(
    hub: Hub, download: Run, tmp_path: Path
) -> None:
    hub.add("a/b/m.safetensors", LARGE)
    hub.cut["a/b/m.safetensors"] = [0] * 100
    result = download([entry("a/b", "m.safetensors", "loras/m.safetensors")])
    assert result.returncode == 1
    assert "broke off, 4 times in a row; what came so far is kept" in result.stderr
    assert "run it again to go on" in result.stderr
    assert not (tmp_path / "models" / "loras").exists()


def test_a_damaged_file_of_the_right_size_is_deleted(
    hub: Hub, download: Run, tmp_path: Path
) -> None:
    hub.add("a/b/m.safetensors", LARGE)
    hub.damaged.add("a/b/m.safetensors")
    files = [entry("a/b", "m.safetensors", "loras/m.safetensors")]
    result = download(files)
    assert result.returncode == 1
    assert "arrived damaged: SHA-256 " in result.stderr
    assert LARGE[::-1] not in files_below(tmp_path / "models").values()
    assert not (tmp_path / "models" / "loras").exists()
    hub.damaged.clear()
    assert download(files).returncode == 0
    assert files_below(tmp_path / "models") == {"loras/m.safetensors": LARGE}


def test_a_damaged_file_on_the_disk_is_downloaded_again(
    hub: Hub, download: Run, tmp_path: Path
) -> None:
    hub.add("a/b/m.safetensors", LARGE)
    target = tmp_path / "models" / "loras" / "m.safetensors"
    target.parent.mkdir(parents=True)
    target.write_bytes(LARGE[::-1])
    assert download([entry("a/b", "m.safetensors", "loras/m.safetensors")]).returncode == 0
    assert target.read_bytes() == LARGE


def test_several_files_are_downloaded_at_once(hub: Hub, download: Run) -> None:
    for name in ("1", "2", "3", "4"):
        hub.add(f"a/b/{name}.safetensors", safetensors(300, seed=int(name)))
    hub.together = threading.Barrier(4)
    result = download([entry("a/b", f"{n}.safetensors", f"loras/{n}") for n in (1, 2, 3, 4)])
    assert result.returncode == 0, result.stderr
    assert not hub.together.broken


def test_too_little_room_is_said_before_anything_is_downloaded(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("a/b/m.safetensors", LARGE)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5))
    downloads = Downloads(tmp_path / "models", Tokens(), {"HF_ENDPOINT": hub.url})
    item = Item(title="m", url="hf://a/b/m.safetensors", destination="m.safetensors")
    with pytest.raises(Shortage, match=r"has 0.0 MB free, but 1.0 MB are missing: make room"):
        downloads.run([item])
    assert hub.all_sent() == 0


def test_one_file_that_cannot_be_had_leaves_the_others_alone(
    hub: Hub, download: Run, tmp_path: Path
) -> None:
    hub.add("a/b/1.safetensors", LARGE)
    hub.add("a/b/2.safetensors", LARGE)
    hub.damaged.add("a/b/2.safetensors")
    result = download([entry("a/b", f"{n}.safetensors", f"loras/{n}.safetensors") for n in (2, 1)])
    assert result.returncode == 1
    assert "error: a/b: 2.safetensors arrived damaged" in result.stderr
    assert files_below(tmp_path / "models") == {"loras/1.safetensors": LARGE}


@pytest.mark.parametrize("part", ["api/models/a/b/revision", "api/models/a/b/tree", "a/b/resolve"])
@pytest.mark.parametrize("answer", [(503, {}), (429, {"Retry-After": "1"})])
def test_a_hub_that_is_away_for_a_moment_is_asked_again_also_by_look_ups(
    hub: Hub, download: Run, part: str, answer: tuple[int, dict[str, str]]
) -> None:
    hub.add("a/b/1.safetensors", VAE)
    hub.answers[part] = [answer, answer]
    path = "1.safetensors" if part == "a/b/resolve" else None
    result = download([entry("a/b", path, "loras/x.safetensors")])
    assert result.returncode == 0, result.stderr


def test_two_downloads_into_one_folder_wait_for_each_other(
    hub: Hub, environ: dict[str, str], tmp_path: Path
) -> None:
    hub.add("a/b/m.safetensors", HUGE)
    hub.bytes_per_s = 2 * STEP
    files = [entry("a/b", "m.safetensors", "loras/m.safetensors")]
    running = [
        subprocess.Popen(command(tmp_path, files), env=environ, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert files_below(tmp_path / "models") == {"loras/m.safetensors": HUGE}
    assert hub.sent("a/b/m.safetensors") == len(HUGE)


def workflow(**node: Any) -> dict[str, Any]:
    return {"nodes": [{"id": 3, "type": "LoraLoader", **node}]}


def fetch_workflow(
    environ: dict[str, str], tmp_path: Path, document: object
) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(document))
    return subprocess.run(
        [
            *(sys.executable, "-m", "models.download", "--workflow", str(path)),
            *("--to", str(tmp_path / "models")),
        ],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_models_of_a_workflow_file_are_fetched(
    hub: Hub, environ: dict[str, str], tmp_path: Path
) -> None:
    hub.add("a/b/split/vae.safetensors", VAE)
    model = {
        "name": "vae.safetensors",
        "url": "https://huggingface.co/a/b/blob/main/split/vae.safetensors?download=true",
        "directory": "vae",
    }
    inner = {"id": "s", "nodes": [{"id": 1, "properties": {"models": [model]}}]}
    document = workflow() | {"definitions": {"subgraphs": [inner]}}
    result = fetch_workflow(environ, tmp_path, document)
    assert result.returncode == 0, result.stderr
    assert files_below(tmp_path / "models") == {"vae/vae.safetensors": VAE}


def test_the_models_of_a_request_are_fetched_and_those_that_nobody_knows_named(
    hub: Hub, environ: dict[str, str], tmp_path: Path
) -> None:
    hub.add("a/b/one.safetensors", VAE)
    hub.add("a/b/two.safetensors", LARGE)
    nodes = {
        "1": {"class_type": "LoraLoader", "inputs": {"lora_name": "one.safetensors"}},
        "2": {"class_type": "VAELoader", "inputs": {"vae_name": "hf://a/b/two.safetensors"}},
        "3": {"class_type": "VAELoader", "inputs": {"vae_name": "other.safetensors"}},
    }
    models = [{"folder": "loras", "name": "one.safetensors", "url": "hf://a/b/one.safetensors"}]
    request = {"input": {"workflow": nodes, "models": models}}
    result = fetch_workflow(environ, tmp_path, request)
    assert result.returncode == 0, result.stderr
    assert "note: node 3 names other.safetensors, and nobody says where" in result.stderr
    assert files_below(tmp_path / "models") == {
        "loras/one.safetensors": VAE,
        "vae/two.safetensors": LARGE,
    }


def test_a_workflow_without_models_needs_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    result = fetch_workflow(environ, tmp_path, workflow())
    assert result.returncode == 0
    assert "does not say where any model can be had" in result.stderr


def test_an_unknown_variant_is_refused_with_those_that_there_are(
    environ: dict[str, str],
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "models.download", "sd4"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "error: There is no variant 'sd4'; there are: base, sdxl" in result.stderr


def test_a_variant_without_models_needs_nothing(environ: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "models.download", "base"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0
    assert "nothing to download" in result.stderr


def build_step(environ: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """One step of the image's build, with its three places below `folder`."""
    program = (
        "import models.downloads as program, models.fetch_for_image as step; "
        "from pathlib import Path; program.PAUSES_S = (0.01,) * 3; "
        f"folder = Path({str(folder)!r}); step.PLAN = folder / 'plan/file.json'; "
        "step.CACHE = folder / 'cache'; step.LAYER = folder; step.MODELS = folder / 'models'; "
        "step.TOKEN = folder / 'HF_TOKEN'; step.main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False
    )


def test_a_step_of_the_build_fetches_one_file_and_makes_the_same_layer_each_time(
    hub: Hub, environ: dict[str, str], tmp_path: Path
) -> None:
    hub.add("a/gated/m.safetensors", LARGE)
    hub.gated["a/gated"] = TOKEN
    (tmp_path / "plan").mkdir()
    file = entry("a/gated", "m.safetensors", "vae/m.safetensors", gated=True)
    (tmp_path / "plan" / "file.json").write_text(json.dumps(file))
    (tmp_path / "HF_TOKEN").write_text(f"{TOKEN}\n")
    result = build_step(environ, tmp_path)
    assert result.returncode == 0, result.stderr
    models = tmp_path / "models"
    assert files_below(models) == {"vae/m.safetensors": LARGE}
    assert {path.stat().st_mtime for path in [models, *models.rglob("*")]} == {0.0}
    assert TOKEN not in result.stderr


def test_a_build_that_is_cut_off_downloads_only_the_rest_the_next_time(
    hub: Hub, environ: dict[str, str], tmp_path: Path
) -> None:
    pieces = 20
    content = safetensors(pieces * STEP)
    hub.add("a/b/config.json", b"{}")
    hub.add("a/b/m.safetensors", content)
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "file.json").write_text(json.dumps(entry("a/b", None, "Whole")))
    # After 18 pieces the hub goes away for good, as far as this build is concerned.
    hub.refuse_after["a/b/m.safetensors"] = 18 * STEP
    result = build_step(environ, tmp_path)
    assert result.returncode == 1
    assert "in a row; what came so far is kept" in result.stderr
    assert not list((tmp_path / "models").rglob("*"))
    shutil.rmtree(tmp_path / "models")
    hub.refuse_after.clear()
    hub.served.clear()
    result = build_step(environ, tmp_path)
    assert result.returncode == 0, result.stderr
    assert hub.sent("a/b/m.safetensors") <= 2 * STEP + STEP
    assert (tmp_path / "models" / "Whole" / "m.safetensors").read_bytes() == content
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["steps"]


def test_a_step_without_a_file_makes_an_empty_layer(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "plan").mkdir()
    assert build_step(environ, tmp_path).returncode == 0
    assert list((tmp_path / "models").iterdir()) == []


def test_a_step_fails_with_a_sentence_when_the_token_is_missing(
    hub: Hub, environ: dict[str, str], tmp_path: Path
) -> None:
    hub.add("a/gated/m.safetensors", LARGE)
    (tmp_path / "plan").mkdir()
    file = entry("a/gated", "m.safetensors", "vae/m.safetensors", gated=True)
    (tmp_path / "plan" / "file.json").write_text(json.dumps(file))
    result = build_step(environ, tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: a/gated can be read with a token only: accept the")
