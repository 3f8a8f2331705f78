"""ComfyUI's cache answers for no other job: what is marked, and that no mark reaches the caller."""

from __future__ import annotations

import copy
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from worker_comfyui.comfyui.cache_keys import (
    MARK,
    CacheKeys,
    is_marked,
    remove_marks,
    with_marks,
)

Workflow = dict[str, dict[str, Any]]

PROMPT_ID = "9b2c7cf3-79a9-4bb3-9a1c-f1b8d9f1f001"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def picture(seed: int = 1) -> Workflow:
    return {
        "1": node("Sampler", seed=seed, text="a cat"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }


def loading(name: str) -> Workflow:
    return {"1": node("Load3D", model=name), "2": node("SaveImage", images=["1", 0])}


def marks(
    keys: CacheKeys, workflow: Workflow, contents: dict[str, str] | None = None
) -> dict[str, str]:
    before = copy.deepcopy(workflow)
    marked = keys.marked(workflow, output_nodes=["2"], contents=contents or {}, mark=PROMPT_ID)
    assert workflow == before
    return {n: item["inputs"][MARK] for n, item in marked.items() if MARK in item["inputs"]}


def test_what_never_ran_here_needs_no_mark() -> None:
    keys = CacheKeys()
    assert marks(keys, picture(1)) == {}
    assert marks(keys, picture(2)) == {}


def test_an_output_node_runs_again_when_the_same_request_comes_again() -> None:
    keys = CacheKeys()
    marks(keys, picture())
    assert marks(keys, picture()) == {"2": PROMPT_ID}


def test_the_same_nodes_under_other_ids_are_the_same_to_the_cache() -> None:
    keys = CacheKeys()
    marks(keys, picture())
    renamed = {
        "a": picture()["1"],
        "2": node("SaveImage", images=["a", 0], filename_prefix="x"),
    }
    assert marks(keys, renamed) == {"2": PROMPT_ID}


def test_a_node_with_several_files_has_another_mark_for_each_that_changes() -> None:
    def scene(*names: str) -> Workflow:
        files = {"image": names[0], "more": [*names[1:]]}
        return {"1": node("Load3D", image=files), "2": node("SaveImage", images=["1", 0])}

    keys = CacheKeys()
    assert marks(keys, scene("a", "b"), {"a": "11", "b": "11"}) == {}
    contents = [("22", "11"), ("22", "22"), ("33", "22"), ("11", "22"), ("22", "33")]
    found = [marks(keys, scene("a", "b"), {"a": a, "b": b}).get("1") for a, b in contents]
    assert None not in found
    assert len(set(found)) == len(found)


def test_another_file_under_the_same_name_marks_the_node_that_names_it() -> None:
    keys = CacheKeys()
    assert marks(keys, loading("a.glb"), {"a.glb": "11"}) == {}
    assert marks(keys, loading("a.glb"), {"a.glb": "22"}) == {"1": "22"}
    assert marks(keys, loading("a.glb"), {"a.glb": "33"}) == {"1": "33"}


def test_the_first_file_of_a_name_needs_no_mark_when_it_comes_again() -> None:
    keys = CacheKeys()
    marks(keys, loading("a.glb"), {"a.glb": "11"})
    marks(keys, loading("a.glb"), {"a.glb": "22"})
    assert marks(keys, loading("a.glb"), {"a.glb": "11"}) == {"2": PROMPT_ID}


def test_a_file_of_the_image_and_a_sent_one_of_its_name_are_told_apart() -> None:
    keys = CacheKeys()
    assert marks(keys, loading("a.glb")) == {}
    assert marks(keys, loading("a.glb"), {"a.glb": "11"}) == {"1": "11"}
    assert marks(keys, loading("a.glb")) == {"2": PROMPT_ID}
    sent_first = CacheKeys()
    assert marks(sent_first, loading("b.glb"), {"b.glb": "11"}) == {}
    assert marks(sent_first, loading("b.glb")) == {"1": "-"}


@pytest.mark.parametrize("name", ["a.glb [input]", "./a.glb", " a.glb", "x/../a.glb"])
def test_other_ways_to_write_a_name_are_seen(name: str) -> None:
    keys = CacheKeys()
    marks(keys, loading(name), {"a.glb": "11"})
    assert "1" in marks(keys, loading(name), {"a.glb": "22"})


def test_a_folder_of_sent_files_is_an_input_too() -> None:
    keys = CacheKeys()
    assert marks(keys, loading("frames"), {"frames/1.png": "11", "frames/2.png": "22"}) == {}
    assert "1" in marks(keys, loading("frames"), {"frames/1.png": "11", "frames/2.png": "33"})


def test_a_comfyui_that_others_use_gets_marks_always() -> None:
    assert marks(CacheKeys(shared=True), picture()) == {"2": PROMPT_ID}
    assert marks(CacheKeys(shared=True), loading("a"), {"a": "11"}) == {"1": "11", "2": PROMPT_ID}


def test_a_worker_that_has_seen_too_much_to_remember_marks_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker_comfyui.comfyui.cache_keys.MAX_REMEMBERED", 3)
    keys = CacheKeys()
    marks(keys, picture(1))
    marks(keys, picture(2))
    assert marks(keys, picture(3)) == {"2": PROMPT_ID}


def test_loops_and_links_to_nothing_end() -> None:
    loop = {"1": node("A", x=["2", 0]), "2": node("B", x=["1", 0], y=["7", 0])}
    keys = CacheKeys()
    assert marks(keys, loop) == {}
    assert marks(keys, loop) == {"2": PROMPT_ID}


def test_a_chain_of_ten_thousand_nodes_is_no_trouble() -> None:
    chain = {str(i): node("A", x=[str(i + 1), 0]) for i in range(2, 10_000)}
    keys = CacheKeys()
    assert marks(keys, chain) == {}
    assert marks(keys, chain) == {"2": PROMPT_ID}


@pytest.mark.parametrize("inputs", [{}, {"text": "a"}, {"text": "a", "n": [1, 2]}])
@pytest.mark.parametrize("indent", [None, 2])
def test_the_workflow_in_a_file_is_the_caller_s(
    tmp_path: Path, inputs: dict[str, Any], indent: int | None
) -> None:
    workflow = {"1": node("A", **inputs), "2": node("B")}
    marked = with_marks(workflow, {"1": PROMPT_ID, "2": "0f" * 16})
    assert is_marked(marked)
    assert not is_marked(workflow)
    path = tmp_path / "sidecar.json"
    path.write_text(json.dumps(marked, indent=indent))
    size = path.stat().st_size
    remove_marks(path)
    assert json.loads(path.read_text()) == workflow
    assert path.stat().st_size == size


def test_the_workflow_in_a_png_is_the_caller_s_and_its_checksums_are_right(tmp_path: Path) -> None:
    workflow = picture()
    info = PngInfo()
    info.add_text("prompt", json.dumps(with_marks(workflow, {"2": PROMPT_ID})))
    path = tmp_path / "saved.png"
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path, pnginfo=info)
    remove_marks(path)
    with Image.open(path) as image:
        image.load()  # reads every checksum
        assert json.loads(image.text["prompt"]) == workflow  # type: ignore[attr-defined]
        assert image.getpixel((0, 0)) == (1, 2, 3)
    data = path.read_bytes()
    at = data.index(b"tEXt")
    length = int.from_bytes(data[at - 4 : at])
    assert int.from_bytes(data[at + 4 + length : at + 8 + length]) == zlib.crc32(
        data[at : at + 4 + length]
    )


def test_a_workflow_in_a_text_in_json_is_the_caller_s(tmp_path: Path) -> None:
    workflow = picture()
    path = tmp_path / "scene.gltf"
    inner = json.dumps(with_marks(workflow, {"2": PROMPT_ID}))
    path.write_text(json.dumps({"extras": {"prompt": inner}}))
    remove_marks(path)
    assert json.loads(json.loads(path.read_text())["extras"]["prompt"]) == workflow


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIDAT"]
)
def test_other_files_stay_as_they_are(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(data)
    remove_marks(path)
    assert path.read_bytes() == data
