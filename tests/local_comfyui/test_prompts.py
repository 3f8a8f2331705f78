from __future__ import annotations

import math
import uuid
from pathlib import Path

import pytest
from PIL import Image

from tests.local_comfyui.workflows import (
    empty_image,
    image_prompt,
    last_message,
    node,
    save,
    sleep_prompt,
    wait_until_running,
)
from tests.support.comfyui import ComfyUI, running_comfyui


def test_api_keys_reach_neither_queue_nor_history(server: ComfyUI) -> None:
    extra = {"api_key_comfy_org": "secret-1", "auth_token_comfy_org": "secret-2", "other": "shown"}
    prompt_id = server.submit(sleep_prompt(0.3), extra_data=extra)
    wait_until_running(server, prompt_id)
    entry = server.wait(prompt_id)

    assert entry["prompt"][3] == {"other": "shown"}
    assert "secret" not in server.log()


def test_an_interrupt_without_a_prompt_id_stops_what_runs(server: ComfyUI) -> None:
    prompt_id = server.submit(sleep_prompt(20))
    wait_until_running(server, prompt_id)
    server.post("/interrupt")

    entry = server.wait(prompt_id)

    assert last_message(entry) == "execution_interrupted"
    assert entry["status"]["status_str"] == "error"


def test_an_interrupt_for_another_prompt_changes_nothing(server: ComfyUI) -> None:
    prompt_id = server.submit(sleep_prompt(0.4))
    wait_until_running(server, prompt_id)
    server.post("/interrupt", json={"prompt_id": str(uuid.uuid4())})

    assert last_message(server.wait(prompt_id)) == "execution_success"


def test_an_interrupt_while_nothing_runs_does_not_hit_the_next_prompt(server: ComfyUI) -> None:
    server.post("/interrupt")

    assert last_message(server.run(sleep_prompt(0.1))) == "execution_success"


def test_a_node_that_ignores_interrupts_ends_by_itself(server: ComfyUI) -> None:
    prompt_id = server.submit({"1": node("TestHang", seconds=0.6)})
    wait_until_running(server, prompt_id)
    server.post("/interrupt", json={"prompt_id": prompt_id})

    assert last_message(server.wait(prompt_id)) == "execution_success"


def test_a_node_may_interrupt_its_own_prompt(server: ComfyUI) -> None:
    entry = server.run({"1": node("TestRaiseInterrupt")})

    assert last_message(entry) == "execution_interrupted"


def test_deleted_history_is_gone(server: ComfyUI) -> None:
    prompt_id = server.submit(image_prompt(5))
    server.wait(prompt_id)
    server.post("/history", json={"delete": [prompt_id]})

    assert server.get(f"/history/{prompt_id}").json() == {}


def test_a_changed_input_file_is_loaded_again(server: ComfyUI) -> None:
    prompt = {"1": node("LoadImage", image="changing.png"), "2": save("1", "changed")}
    path = server.base / "input" / "changing.png"
    seen = []
    for color in ("red", "red", "blue"):
        Image.new("RGB", (4, 4), color).save(path)
        file = server.run(prompt)["outputs"]["2"]["images"][0]
        seen.append(file["filename"])

    assert seen == ["changed_00001_.png", "changed_00001_.png", "changed_00002_.png"]


def test_only_what_changed_runs_again(server: ComfyUI) -> None:
    prompt = {"1": empty_image(77), "2": save("1", "cached")}
    server.run(prompt)
    prompt["2"] = save("1", "cached_not")

    entry = server.run(prompt)

    messages = dict(entry["status"]["messages"])
    assert messages["execution_cached"]["nodes"] == ["1"]


def test_freeing_memory_drops_cached_results(server: ComfyUI) -> None:
    prompt = image_prompt(78, "freed")
    server.run(prompt)
    server.post("/free", json={"free_memory": True})
    assert server.get("/prompt").ok

    files = server.run(prompt)["outputs"]["2"]["images"]

    assert files[0]["filename"] == "freed_00002_.png"


@pytest.mark.parametrize("prefix", ["../outside", "a/../../outside", "/outside"])
def test_a_prefix_that_leaves_the_output_folder_fails_when_it_runs(
    server: ComfyUI, prefix: str
) -> None:
    entry = server.run({"1": empty_image(11), "2": save("1", prefix)})

    assert last_message(entry) == "execution_error"
    assert not list(server.base.glob("outside*"))


def test_any_output_of_a_node_is_in_the_history(server: ComfyUI) -> None:
    prompt = {
        "1": node(
            "TestOutput",
            ui='{"weird": [NaN, {"filename": "a.bin", "subfolder": "s", "type": "output"}]}',
            files='{"s/a.bin": "aGVsbG8="}',
        )
    }

    weird = server.run(prompt)["outputs"]["1"]["weird"]

    assert math.isnan(weird[0])
    assert server.get("/view", params=weird[1]).content == b"hello"


def test_pages_of_other_origins_are_refused(server: ComfyUI) -> None:
    other = server.get("/queue", headers={"Origin": "http://example.com"})
    own = server.get("/queue", headers={"Origin": server.url})

    assert (other.status_code, own.status_code) == (403, 200)


def test_models_are_listed_by_kind(server: ComfyUI) -> None:
    assert server.get("/models/nothing").status_code == 404
    assert server.get("/models/checkpoints").json() == []


def test_an_extra_node_of_any_type_passes_an_image_through(server: ComfyUI) -> None:
    prompt = {"1": empty_image(15), "2": node("TestSleep", seconds=0.1, any=["1", 0])}
    entry = server.run({**prompt, "3": save("2", "through")})

    assert entry["outputs"]["3"]["images"][0]["filename"] == "through_00001_.png"


def test_a_node_behind_a_list_runs_once_per_element(tmp_path: Path) -> None:
    nodes = tmp_path / "list_nodes.py"
    nodes.write_text(
        "class Words:\n"
        "    RETURN_TYPES, OUTPUT_IS_LIST, FUNCTION = ('STRING',), (True,), 'run'\n"
        "    @classmethod\n"
        "    def INPUT_TYPES(cls):\n"
        "        return {'required': {}}\n"
        "    def run(self):\n"
        "        return (['a', 'b', 'c'],)\n"
        "NODE_CLASS_MAPPINGS = {'Words': Words}\n"
    )
    with running_comfyui(tmp_path / "base", [nodes]) as server:
        entry = server.run({"1": node("Words"), "2": node("PreviewAny", source=["1", 0])})

    assert entry["outputs"]["2"]["text"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "prompt_id",
    ["job-1", "", 7, ["x"], "ABCDEF00-0000-4000-8000-000000000000", uuid.UUID(int=5).hex],
)
def test_a_prompt_id_must_be_a_plain_uuid(server: ComfyUI, prompt_id: object) -> None:
    """Since 0.25.0."""
    response = server.post("/prompt", json={"prompt": image_prompt(), "prompt_id": prompt_id})

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_prompt_id"


def test_an_input_cannot_be_read_from_outside_the_input_folder(server: ComfyUI) -> None:
    """Since 0.28.0."""
    (server.base / "outside.png").write_bytes(b"secret")
    prompt = {"1": node("LoadImage", image="../outside.png"), "2": save("1")}
    response = server.post("/prompt", json={"prompt": prompt})

    errors = response.json()["node_errors"]["1"]["errors"]
    assert errors[0]["details"] == "image - Invalid image file: ../outside.png"


def test_a_malformed_node_that_nothing_needs_stops_nothing(server: ComfyUI) -> None:
    entry = server.run({**image_prompt(21), "3": {"class_type": "ImageInvert"}})

    assert last_message(entry) == "execution_success"
    assert last_message(server.run(image_prompt(22))) == "execution_success"


def test_an_error_outside_of_a_node_stops_only_its_prompt(server: ComfyUI) -> None:
    inputs = {"images": ["1", 0], "filename_prefix": "x"}
    prompt = {"1": empty_image(23), "2": {"class_type": "SaveImage", "inputs": inputs}}
    prompt["2"]["inputs"]["more"] = ["nowhere", 0]  # no input of the node, so nobody checks it

    assert last_message(server.run(prompt)) == "execution_error"
    assert last_message(server.run(image_prompt(24))) == "execution_success"


def test_a_class_that_only_comfyui_has_says_how_to_get_it(server: ComfyUI) -> None:
    prompt = {
        "1": node("UpscaleModelLoader", model_name="4x.pth"),
        "2": node("ImageUpscaleWithModel", upscale_model=["1", 0], image=["3", 0]),
        "3": empty_image(),
        "4": save("2"),
        "5": node("NotInstalled"),
    }
    answer = server.post("/prompt", json={"prompt": prompt})

    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_prompt")
    assert error["message"] == "Cannot execute because node UpscaleModelLoader does not exist."
    assert error["details"] == f"Node ID '#1': {error['extra_info']['hint']}"
    assert error["extra_info"]["only_in_comfyui"] == ["ImageUpscaleWithModel", "UpscaleModelLoader"]
    for name in ("COMFYUI_PATH", "COMFY_HOST", "runs no models"):
        assert name in error["extra_info"]["hint"]


def test_a_class_that_comfyui_does_not_have_either_gets_its_plain_words(server: ComfyUI) -> None:
    error = server.post("/prompt", json={"prompt": {"7": node("NotInstalled")}}).json()["error"]

    assert (error["details"], error["extra_info"]) == ("Node ID '#7'", {})
