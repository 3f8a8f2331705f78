"""From a workflow to its files, on a ComfyUI that runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfyui import ROOT, ComfyUI, running_comfyui
from tests.support.hub import Hub, safetensors
from tests.support.waiting import wait_until
from worker_comfyui.config import Secret, Settings
from worker_comfyui.errors import ModelRefused, ModelUnavailable, TimedOut
from worker_comfyui.models import catalogue, store
from worker_comfyui.models.catalogue import Entry, Origin
from worker_comfyui.models.ensure import Ensured
from worker_comfyui.models.service import Models
from worker_comfyui.models.transfer import fetch
from worker_comfyui.models.transfer.partial import PIECE_BYTES
from worker_comfyui.models.transfer.progress import Progress
from worker_comfyui.models.transfer.remote import Remote
from worker_comfyui.models.transfer.terms import Means
from worker_comfyui.stop import JobCancelled, Stop
from worker_comfyui.volume.model_paths import ModelPaths

SMALL = safetensors(100_000)
NODES = ROOT / "tests" / "nodes" / "model_nodes.py"


class View:
    """What ComfyUI says of itself, over HTTP; counts the questions."""

    def __init__(self, server: ComfyUI) -> None:
        self._server = server
        self.questions = 0

    def node_class(self, class_type: str) -> dict[str, Any] | None:
        """A class' entry of /object_info."""
        answer: dict[str, Any] = self._get(f"/object_info/{class_type}")
        return answer.get(class_type)

    def model_folders(self) -> list[str]:
        """GET /models."""
        found: list[str] = self._get("/models")
        return found

    def models(self, folder: str) -> list[str]:
        """GET /models/FOLDER."""
        answer = self._server.get(f"/models/{folder}")
        self.questions += 1
        found: list[str] = answer.json() if answer.ok else []
        return found

    def _get(self, path: str) -> Any:
        self.questions += 1
        return self._server.get(path).json()


class Kit:
    """A worker's models beside a running ComfyUI."""

    def __init__(self, server: ComfyUI, settings: Settings) -> None:
        self.view = View(server)
        self.server = server
        self.models = Models(settings, own_models=server.base / "models")
        self.said: list[str] = []

    def ensure(
        self,
        workflow: dict[str, Any],
        entries: list[Entry] | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> Ensured:
        """See that a workflow's models are there."""
        return self.models.ensure(workflow, self.view, entries or [], tick, self.report)

    def report(self, progress: Progress) -> None:
        """Note what a caller would see."""
        self.said.append(str(progress))

    def listed(self, folder: str) -> list[str]:
        """What ComfyUI lists now."""
        return self.view.models(folder)


def settings(hub: Hub, tmp_path: Path, **more: Any) -> Settings:
    return Settings(
        **{
            "hf_endpoint": hub.url,
            "allow_model_downloads": True,
            "runpod_volume_path": tmp_path / "none",
            "model_store_path": tmp_path / "store",
            **more,
        }
    )


@pytest.fixture
def start(hub: Hub, tmp_path: Path) -> Iterator[Callable[..., Kit]]:
    """Start a ComfyUI that is told of the store as the worker tells it."""
    stack: list[Any] = []

    def start(**more: Any) -> Kit:
        chosen = settings(hub, tmp_path, **more)
        paths = ModelPaths(chosen)
        base = tmp_path / "comfyui"
        file = paths.prepare(base / "models")
        assert file
        server = running_comfyui(base, [NODES], ["--extra-model-paths-config", str(file)])
        stack.append((server, paths))
        return Kit(server.__enter__(), chosen)

    yield start
    for server, paths in stack:
        server.__exit__(None, None, None)
        paths.close()


def load(name: str) -> dict[str, Any]:
    return {"4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}}


def entry(name: str = "m.safetensors", **more: Any) -> Entry:
    url = f"hf://a/b/{name}"
    values = {"folder": "checkpoints", "origin": Origin.REQUEST, "path": "models[0]"}
    return Entry(name=name, **{"url": url, **values, **more})


def test_a_model_that_comfyui_lacks_is_fetched_and_listed_at_once(
    hub: Hub, start: Callable[..., Kit]
) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    kit = start()
    assert kit.listed("checkpoints") == []
    with kit.ensure(load("m.safetensors"), [entry()]) as ensured:
        assert kit.listed("checkpoints") == ["m.safetensors"]
        assert ensured.workflow == load("m.safetensors")
        assert ensured.fetched == [
            {
                "folder": "checkpoints",
                "name": "m.safetensors",
                "url": f"{hub.url}/a/b/resolve/main/m.safetensors",
                "bytes": len(SMALL),
                "received_bytes": len(SMALL),
                "from": "fetched",
            }
        ]
        assert ensured.seconds > 0
    with kit.ensure(load("m.safetensors"), [entry()]) as again:
        assert again.fetched == []
    assert hub.sent("a/b/m.safetensors") == len(SMALL)


def test_what_is_there_costs_one_question(hub: Hub, start: Callable[..., Kit]) -> None:
    kit = start()
    (kit.server.base / "models" / "checkpoints").mkdir(exist_ok=True)
    (kit.server.base / "models" / "checkpoints" / "m.safetensors").write_bytes(SMALL)
    workflow = {**load("m.safetensors"), "5": load("m.safetensors")["4"]}
    with kit.ensure(workflow, [entry()]) as ensured:
        assert ensured.workflow is not None
    assert kit.view.questions == 1
    assert hub.asked == []
    assert not kit.models.is_needed(workflow)
    assert kit.models.is_needed(workflow, [entry()])
    assert not kit.models.is_needed({"1": {"class_type": "EmptyImage", "inputs": {}}}, [entry()])


def test_a_fetched_model_that_a_job_names_is_in_use_until_its_end(
    hub: Hub, start: Callable[..., Kit]
) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    hub.add("a/b/n.safetensors", safetensors(100_000, seed=1))
    kit = start(model_cache_gb=0.00015)
    kit.ensure(load("m.safetensors"), [entry()]).close()
    assert kit.models.is_needed(load("m.safetensors"))
    with kit.ensure(load("m.safetensors")):
        with pytest.raises(ModelRefused, match=r"MODEL_CACHE_GB"):
            kit.ensure(load("n.safetensors"), [entry("n.safetensors")])
        assert kit.listed("checkpoints") == ["m.safetensors"]
    kit.ensure(load("n.safetensors"), [entry("n.safetensors")]).close()
    assert kit.listed("checkpoints") == ["n.safetensors"]


def test_a_url_stands_in_a_loader_s_input(hub: Hub, start: Callable[..., Kit]) -> None:
    hub.add("a/b/deep/m.safetensors", SMALL)
    kit = start()
    for url in ("hf://a/b/deep/m.safetensors", f"{hub.url}/a/b/blob/main/deep/m.safetensors"):
        with kit.ensure(load(url)) as ensured:
            assert ensured.workflow == load("m.safetensors")
    assert kit.listed("checkpoints") == ["m.safetensors"]
    assert hub.sent("a/b/deep/m.safetensors") == len(SMALL)


def test_a_name_with_its_author_s_folders_is_found_and_kept(
    hub: Hub, start: Callable[..., Kit]
) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    kit = start()
    with kit.ensure(load("SDXL/m.safetensors"), [entry()]) as ensured:
        assert ensured.workflow == load("SDXL/m.safetensors")
    with kit.ensure(load("SDXL\\n.safetensors"), [entry("n.safetensors", url=entry().url)]) as more:
        assert more.workflow == load("SDXL/n.safetensors")
    assert kit.listed("checkpoints") == ["SDXL/m.safetensors", "SDXL/n.safetensors"]


def test_the_operator_s_entry_goes_before_the_request_s(
    hub: Hub, tmp_path: Path, start: Callable[..., Kit]
) -> None:
    hub.add("own/repo/x.safetensors", SMALL)
    hub.add("a/b/m.safetensors", safetensors(5000))
    listed = tmp_path / "catalogue.yaml"
    listed.write_text(
        "- folder: checkpoints\n  name: m.safetensors\n  url: hf://own/repo/x.safetensors\n"
    )
    kit = start(model_catalog=str(listed), allow_model_downloads=False)
    with kit.ensure(load("m.safetensors"), [entry()]) as ensured:
        [fact] = ensured.fetched
    assert fact["bytes"] == len(SMALL)


def test_an_entry_that_fails_gives_way_to_the_next(hub: Hub, start: Callable[..., Kit]) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    kit = start()
    gone = entry(url="hf://gone/gone/m.safetensors")
    with kit.ensure(load("m.safetensors"), [gone, entry()]) as ensured:
        assert [fact["from"] for fact in ensured.fetched] == ["fetched"]
    with pytest.raises(ModelRefused, match=r"node 4 .*gone/gone: n.safetensors is not on the hub"):
        kit.ensure(
            load("n.safetensors"), [entry("n.safetensors", url="hf://gone/gone/n.safetensors")]
        )


def test_a_link_that_the_operator_lists_is_fetched_as_listed(
    hub: Hub, start: Callable[..., Kit]
) -> None:
    hub.add("a/b/weights", SMALL)
    own = '[{"folder": "checkpoints", "name": "m.safetensors", "url": "hf://a/b/weights"}]'
    kit = start(model_catalog=own, allow_model_downloads=False)
    with kit.ensure(load("hf://a/b/weights")) as ensured:
        assert ensured.workflow == load("m.safetensors")


def test_a_refused_link_to_a_version_is_called_by_its_address(start: Callable[..., Kit]) -> None:
    own = '[{"folder": "loras", "name": "y.sft", "url": "hf://a/b/y.sft"}]'
    kit = start(model_catalog=own, allow_model_downloads=False)
    with pytest.raises(ModelRefused) as refused:
        kit.ensure(load("civitai://5"))
    [detail] = refused.value.details
    assert detail["message"].startswith("civitai://5 has the model, but this endpoint does not")


def test_an_unknown_loader_s_kind_is_told_by_its_list(hub: Hub, start: Callable[..., Kit]) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    kit = start()
    loras = kit.server.base / "models" / "loras"
    loras.mkdir(exist_ok=True)
    (loras / "known.safetensors").write_bytes(SMALL)
    workflow = {
        "1": {"class_type": "PackLoraLoader", "inputs": {"weights": "hf://a/b/m.safetensors"}}
    }
    with kit.ensure(workflow) as ensured:
        assert ensured.workflow["1"]["inputs"] == {"weights": "m.safetensors"}
    assert kit.listed("loras") == ["known.safetensors", "m.safetensors"]


def test_a_kind_that_only_a_node_pack_knows_is_shown_in_comfyui_s_own_folder(
    hub: Hub, start: Callable[..., Kit]
) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    kit = start()
    workflow = {"1": {"class_type": "OwnKindLoader", "inputs": {"model": "m.safetensors"}}}
    with kit.ensure(workflow, [entry(folder="made_up_kind")]) as ensured:
        assert ensured.fetched
    link = kit.server.base / "models" / "made_up_kind" / "m.safetensors"
    assert link.is_symlink()
    assert link.read_bytes() == SMALL
    with pytest.raises(ModelRefused, match="give the `folder` that the node reads"):
        kit.ensure(
            {"1": {"class_type": "OwnKindLoader", "inputs": {"model": "n.safetensors"}}},
            [entry("n.safetensors", url=entry().url, folder="other_kind")],
        )


def test_an_embedding_that_a_prompt_names_is_fetched(hub: Hub, start: Callable[..., Kit]) -> None:
    hub.add("a/b/bad-hands.safetensors", SMALL)
    hub.add("a/b/other.safetensors", SMALL)
    kit = start()
    text = "ugly, (embedding:bad-hands:1.2), embedding:unknown"
    workflow = {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": text}}}
    entries = [entry(f"{name}.safetensors", folder="embeddings") for name in ("bad-hands", "other")]
    assert kit.models.is_needed(workflow, entries)
    with kit.ensure(workflow, entries) as ensured:
        assert ensured.workflow == workflow
    assert kit.listed("embeddings") == ["bad-hands.safetensors"]
    with kit.ensure(workflow, entries) as again:
        assert again.fetched == []


def test_a_url_whose_kind_cannot_be_told_asks_for_the_folder(start: Callable[..., Kit]) -> None:
    kit = start()
    workflow = {"1": {"class_type": "OwnKindLoader", "inputs": {"model": "hf://a/b/m.safetensors"}}}
    with pytest.raises(
        ModelRefused, match=r"node 1 \(OwnKindLoader\), input `model`: it cannot be"
    ):
        kit.ensure(workflow)


def test_a_model_that_nobody_knows_is_left_to_comfyui_with_the_line_to_add(
    start: Callable[..., Kit],
) -> None:
    kit = start()
    with kit.ensure(load("other.safetensors"), [entry()]) as ensured:
        assert ensured.workflow == load("other.safetensors")
        assert (
            '{"folder": "checkpoints", "name": "other.safetensors", "url": "https://..."}'
            in (ensured.missing["other.safetensors"])
        )


def test_a_refusal_names_the_node_and_says_what_to_do(hub: Hub, start: Callable[..., Kit]) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    hub.gated["a/b"] = "hf_made_up"
    kit = start(hf_token=Secret("hf_of_somebody_else"))
    with pytest.raises(ModelRefused) as caught:
        kit.ensure(load("m.safetensors"), [entry()])
    assert str(caught.value).startswith(
        "MODEL_REFUSED: node 4 (CheckpointLoaderSimple), input `ckpt_name`: a/b: m.safetensors "
        "was refused (403): accept the terms at https://huggingface.co/a/b with the account"
    )
    assert "somebody" not in str(caught.value)
    assert kit.listed("checkpoints") == []


def test_all_that_may_not_be_fetched_is_told_before_any_server_is_asked(
    start: Callable[..., Kit],
) -> None:
    kit = start(civitai_endpoint="http://127.0.0.1:9")
    kinds = {
        "1": "m.safetensors",
        "2": "civitai://7",
        "3": "n.ckpt",
        "4": "https://example.com/o.safetensors",
    }
    workflow = {node_id: load(name)["4"] for node_id, name in kinds.items()}
    with pytest.raises(ModelRefused, match=r"n\.ckpt: only .*and 1 more problem") as caught:
        kit.ensure(workflow, [entry(), entry("n.ckpt")])
    assert [detail["node_id"] for detail in caught.value.details] == ["3", "4"]
    assert "MODEL_HOSTS" in caught.value.details[1]["message"]
    assert kit.listed("checkpoints") == []


def test_a_dry_run_tells_the_same_and_asks_no_server(start: Callable[..., Kit]) -> None:
    kit = start(civitai_endpoint="http://127.0.0.1:9")
    kinds = {"1": "m.safetensors", "2": "n.ckpt", "3": "civitai://7", "4": "other.safetensors"}
    workflow = {node_id: load(name)["4"] for node_id, name in kinds.items()}
    entries = [entry(), entry("n.ckpt"), entry("other.safetensors", folder="loras")]
    found = kit.models.look(workflow, kit.view, entries, lambda: None)
    assert {model["node_id"]: model["status"] for model in found.models} == {
        "1": "would be fetched",
        "2": "missing",
        "3": "would be fetched",
        "4": "missing",  # the entry is of another kind of model
    }
    with pytest.raises(ModelRefused) as caught:
        kit.ensure({"2": workflow["2"]}, entries)
    assert found.refused == caught.value.details
    assert "other.safetensors" in found.advice


def test_a_dry_run_tells_of_embeddings_too(start: Callable[..., Kit]) -> None:
    kit = start()
    text = {"class_type": "CLIPTextEncode", "inputs": {"text": "embedding:easy and embedding:old"}}
    names = ("easy.safetensors", "old.pt")
    entries = [entry(name, folder="embeddings") for name in names]
    found = kit.models.look({"6": text}, kit.view, entries, lambda: None)
    assert [(model["name"], model["status"]) for model in found.models] == [
        ("easy", "would be fetched")
    ]
    assert ["old.pt" in detail["message"] for detail in found.refused] == [True]


def test_a_hub_that_is_away_is_an_error_that_can_be_tried_again(
    hub: Hub, start: Callable[..., Kit], monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = Means.__init__.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "pauses_s", (0.01,))
    kit = start(hf_endpoint="http://127.0.0.1:1")
    del hub
    with pytest.raises(ModelUnavailable) as caught:
        kit.ensure(load("m.safetensors"), [entry()])
    assert caught.value.as_result()["retryable"] is True


def test_private_addresses_are_refused_at_connect_time(start: Callable[..., Kit]) -> None:
    kit = start(model_hosts=frozenset({"*"}))
    for host in ("127.0.0.1", "localhost", "169.254.169.254", "[::1]", "10.0.0.1"):
        wanted = entry(url=f"https://{host}/m.safetensors")
        with pytest.raises(ModelRefused, match="has an address that is not public"):
            kit.ensure(load("m.safetensors"), [wanted])


def test_a_redirect_to_a_private_address_is_refused(hub: Hub, start: Callable[..., Kit]) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    hub.elsewhere["a/b/m.safetensors"] = "https://169.254.169.254/latest/meta-data"
    kit = start()
    with pytest.raises(ModelRefused, match=r"169.254.169.254 has an address that is not public"):
        kit.ensure(load("m.safetensors"), [entry()])
    hub.elsewhere["a/b/m.safetensors"] = f"http://127.0.0.1:{kit.server.port}/system_stats"
    with pytest.raises(ModelRefused, match="models are fetched by https only"):
        kit.ensure(load("m.safetensors"), [entry()])


def wait_for_no_threads() -> None:
    """See that none goes on by itself: one may just write its last piece."""
    wait_until(lambda: not any(t.name.startswith("model") for t in threading.enumerate()))


@pytest.mark.parametrize("why", [JobCancelled, TimedOut])
def test_a_cancel_or_a_deadline_ends_it_at_once_and_keeps_what_came(
    hub: Hub, start: Callable[..., Kit], why: type[Exception]
) -> None:
    content = safetensors(120_000_000)
    hub.add("a/b/m.safetensors", content)
    hub.bytes_per_s = 4_000_000
    kit = start()
    cancelled = threading.Event()
    stop = Stop(cancelled.is_set)
    began: list[float] = []

    def tick() -> None:
        if hub.sent_so_far("a/b/m.safetensors") > 2 * PIECE_BYTES and not began:
            began.append(time.monotonic())
            if why is TimedOut:
                stop.limit(0)
            else:
                cancelled.set()
        stop.check()

    with pytest.raises(why):
        kit.ensure(load("m.safetensors"), [entry()], tick)
    assert time.monotonic() - began[0] < 10  # the rest would take half a minute
    wait_for_no_threads()
    assert kit.listed("checkpoints") == []
    assert any(said.startswith("fetching m.safetensors, ") for said in kit.said)
    assert any(said.endswith(" MB/s") for said in kit.said)
    hub.bytes_per_s = None
    with kit.ensure(load("m.safetensors"), [entry()]) as ensured:
        [fact] = ensured.fetched
    assert fact["received_bytes"] < len(content)
    assert kit.listed("checkpoints") == ["m.safetensors"]


def test_models_behind_one_that_failed_end_before_they_begin(
    start: Callable[..., Kit], monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = start()
    names = [f"{number}.safetensors" for number in range(300)]
    workflow = {
        name: load(f"https://huggingface.co/a/b/resolve/main/{name}")["4"] for name in names
    }
    asked: list[object] = []

    def ask(*arguments: Any) -> Remote:
        asked.append(arguments)
        return fetch.ask(*arguments)

    monkeypatch.setattr(store, "ask", ask)
    with pytest.raises(ModelRefused, match="is not on the hub"):
        kit.ensure(workflow)
    assert len(asked) < 50


def test_the_entries_of_an_editor_s_file_are_those_of_its_nodes() -> None:
    model = {
        "name": "v.safetensors",
        "url": "https://huggingface.co/a/b/resolve/main/v.safetensors",
        "directory": "vae",
        "hash": "AB" * 32,
        "hash_type": "SHA256",
    }
    broken = {"name": "../x", "url": "ftp://x", "directory": "custom_nodes"}
    inner = {"nodes": [{"id": 2, "properties": {"models": [model]}}]}
    document = {
        "nodes": [{"id": 1, "properties": {"models": [broken, 5, None]}}, "x", None],
        "definitions": {"subgraphs": [inner, 7]},
    }
    [found] = catalogue.of_workflow(document)
    assert (found.folder, found.name, found.sha256) == ("vae", "v.safetensors", "ab" * 32)
    assert found.origin is Origin.WORKFLOW
    odd_ones: list[Any] = [None, [], 5, {"nodes": 5}, {"nodes": [{"properties": []}]}]
    for odd in odd_ones:
        assert catalogue.of_workflow(odd) == []


def test_older_files_name_their_models_at_the_top() -> None:
    item = {"name": "v.safetensors", "url": "hf://a/b/v.safetensors", "directory": "vae"}
    [found] = catalogue.of_workflow({"nodes": [], "models": [item, 5]})
    assert (found.folder, found.name, found.url) == ("vae", "v.safetensors", item["url"])
