from __future__ import annotations

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

    assert "secret" not in server.get("/queue").text
    assert server.wait(prompt_id)["prompt"][3] == {"other": "shown"}
    assert "secret" not in server.log()


def test_an_interrupt_without_a_prompt_id_stops_what_runs_and_not_the_next(
    server: ComfyUI,
) -> None:
    prompt_id = server.submit(sleep_prompt(20))
    wait_until_running(server, prompt_id)
    server.post("/interrupt")

    assert last_message(server.wait(prompt_id)) == "execution_interrupted"
    server.post("/interrupt")
    assert last_message(server.run(sleep_prompt(0.1))) == "execution_success"


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
        seen.append(server.run(prompt)["outputs"]["2"]["images"][0]["filename"])

    assert seen == ["changed_00001_.png", "changed_00001_.png", "changed_00002_.png"]


def test_only_what_changed_runs_again(server: ComfyUI) -> None:
    prompt = {"1": empty_image(77), "2": save("1", "cached")}
    server.run(prompt)
    messages = server.run({**prompt, "2": save("1", "cached_not")})["status"]["messages"]

    assert dict(messages)["execution_cached"]["nodes"] == ["1"]


def test_pages_of_other_origins_are_refused(server: ComfyUI) -> None:
    origins = ("http://example.com", server.url)
    answers = [server.get("/queue", headers={"Origin": origin}) for origin in origins]

    assert [answer.status_code for answer in answers] == [403, 200]


def test_models_of_an_unknown_kind_are_not_found(server: ComfyUI) -> None:
    assert server.get("/models/nothing").status_code == 404


def test_a_node_behind_a_list_runs_once_per_element(tmp_path: Path) -> None:
    nodes = tmp_path / "list_nodes.py"
    nodes.write_text(
        "class Words:\n"
        "    RETURN_TYPES, OUTPUT_IS_LIST, FUNCTION = ('STRING',), (True,), 'run'\n"
        "    INPUT_TYPES = classmethod(lambda cls: {'required': {}})\n"
        "    def run(self):\n"
        "        return (['a', 'b', 'c'],)\n"
        "NODE_CLASS_MAPPINGS = {'Words': Words}\n"
    )
    with running_comfyui(tmp_path / "base", [nodes]) as server:
        entry = server.run({"1": node("Words"), "2": node("PreviewAny", source=["1", 0])})

    assert entry["outputs"]["2"]["text"] == ["a", "b", "c"]


@pytest.mark.parametrize("prompt_id", ["job-1", "", 7, str(uuid.UUID(int=171)).upper()])
def test_a_prompt_id_must_be_a_plain_uuid(server: ComfyUI, prompt_id: object) -> None:
    """Since 0.25.0."""
    response = server.post("/prompt", json={"prompt": image_prompt(), "prompt_id": prompt_id})

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_prompt_id"


def test_an_input_cannot_be_read_from_outside_the_input_folder(server: ComfyUI) -> None:
    """Since 0.28.0."""
    (server.base / "outside.png").write_bytes(b"secret")
    prompt = {"1": node("LoadImage", image="../outside.png"), "2": save("1")}
    errors = server.post("/prompt", json={"prompt": prompt}).json()["node_errors"]["1"]["errors"]

    assert errors[0]["details"] == "image - Invalid image file: ../outside.png"


def test_a_malformed_node_that_nothing_needs_stops_nothing(server: ComfyUI) -> None:
    entry = server.run({**image_prompt(21), "3": {"class_type": "ImageInvert"}})

    assert last_message(entry) == "execution_success"


def test_an_error_outside_of_a_node_stops_only_its_prompt(server: ComfyUI) -> None:
    prompt = image_prompt(23)
    prompt["2"]["inputs"]["more"] = ["nowhere", 0]  # no input of the node, so nobody checks it

    assert last_message(server.run(prompt)) == "execution_error"
    assert last_message(server.run(image_prompt(24))) == "execution_success"


def test_a_class_that_only_comfyui_has_says_how_to_get_it(stand_in: ComfyUI) -> None:
    prompt = {
        "1": node("UpscaleModelLoader", model_name="4x.pth"),
        "2": node("ImageUpscaleWithModel", upscale_model=["1", 0], image=["3", 0]),
        "3": save("2"),
        "4": node("NotInstalled"),
    }
    error = stand_in.post("/prompt", json={"prompt": prompt}).json()["error"]

    hint = error["extra_info"]["hint"]
    assert error["details"] == f"Node ID '#1': {hint}"
    assert error["extra_info"]["only_in_comfyui"] == ["ImageUpscaleWithModel", "UpscaleModelLoader"]
    for name in ("COMFYUI_PATH", "COMFY_HOST", "runs no models"):
        assert name in hint
