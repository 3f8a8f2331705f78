from __future__ import annotations

import math
import uuid
from collections.abc import Iterator

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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("prompts")) as comfyui:
        yield comfyui


def test_a_given_prompt_id_is_kept(server: ComfyUI) -> None:
    prompt_id = str(uuid.uuid4())

    assert server.submit(image_prompt(), prompt_id=prompt_id) == prompt_id
    assert server.wait(prompt_id)["status"]["completed"] is True


def test_api_keys_reach_neither_queue_nor_history(server: ComfyUI) -> None:
    extra = {"api_key_comfy_org": "secret-1", "auth_token_comfy_org": "secret-2", "other": "shown"}
    prompt_id = server.submit(sleep_prompt(0.3), extra_data=extra)
    wait_until_running(server, prompt_id)
    entry = server.wait(prompt_id)

    assert entry["prompt"][3] == {"other": "shown"}
    assert "secret" not in server.log()


def test_only_wanted_output_nodes_run(server: ComfyUI) -> None:
    prompt = {"1": empty_image(1), "2": save("1"), "3": save("1", "other")}

    entry = server.run(prompt, partial_execution_targets=["3"])

    assert list(entry["outputs"]) == ["3"]


def test_a_prompt_at_the_front_overtakes_waiting_ones(server: ComfyUI) -> None:
    running = server.submit(sleep_prompt(0.6))
    wait_until_running(server, running)
    waiting = server.submit(image_prompt(2))
    first = server.submit(image_prompt(3), front=True)
    pending = [item[1] for item in server.get("/queue").json()["queue_pending"]]
    ends = [
        dict(server.wait(prompt_id)["status"]["messages"])["execution_success"]["timestamp"]
        for prompt_id in (running, first, waiting)
    ]

    assert set(pending) == {first, waiting}
    assert ends == sorted(ends)


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


def test_clearing_the_queue_leaves_what_runs(server: ComfyUI) -> None:
    running = server.submit(sleep_prompt(0.5))
    wait_until_running(server, running)
    waiting = server.submit(image_prompt(4))
    server.post("/queue", json={"clear": True})
    server.wait(running)

    assert server.get("/prompt").json() == {"exec_info": {"queue_remaining": 0}}
    assert server.get(f"/history/{waiting}").json() == {}


def test_a_history_window_counts_from_the_oldest_and_a_limit_from_the_newest(
    server: ComfyUI,
) -> None:
    server.post("/history", json={"clear": True})
    ids = [server.submit(image_prompt(color)) for color in range(4)]
    server.wait(ids[-1])

    assert list(server.get("/history").json()) == ids
    assert list(server.get("/history?max_items=2").json()) == ids[2:]
    assert list(server.get("/history?max_items=2&offset=1").json()) == ids[1:3]
    assert server.get("/history?max_items=two").status_code == 500


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


def test_a_node_behind_a_list_runs_once_per_element(server: ComfyUI) -> None:
    prompt = {
        "1": empty_image(9, batch_size=3),
        "2": node("RebatchImages", images=["1", 0], batch_size=1),
        "3": save("2", "listed"),
    }

    names = [file["filename"] for file in server.run(prompt)["outputs"]["3"]["images"]]

    assert names == ["listed_00001_.png", "listed_00002_.png", "listed_00003_.png"]


def test_prefixes_fill_in_size_and_folder(server: ComfyUI) -> None:
    prompt = {"1": empty_image(10, size=12), "2": save("1", "sized/%width%x%height%/p")}

    file = server.run(prompt)["outputs"]["2"]["images"][0]

    assert (file["subfolder"], file["filename"]) == ("sized/12x12", "p_00001_.png")


@pytest.mark.parametrize("prefix", ["../outside", "a/../../outside", "/outside"])
def test_a_prefix_that_leaves_the_output_folder_fails_when_it_runs(
    server: ComfyUI, prefix: str
) -> None:
    entry = server.run({"1": empty_image(11), "2": save("1", prefix)})

    assert last_message(entry) == "execution_error"
    assert not list(server.base.glob("outside*"))


def test_an_error_names_node_exception_and_inputs(server: ComfyUI) -> None:
    entry = server.run({"7": node("TestFail", message="broken on purpose")})

    event, data = entry["status"]["messages"][-1]
    assert event == "execution_error"
    assert (data["node_id"], data["node_type"]) == ("7", "TestFail")
    assert data["exception_type"] == "RuntimeError"
    assert data["exception_message"] == "broken on purpose\n"
    assert data["current_inputs"]["message"] == ["broken on purpose"]
    assert "TestFail" not in data["traceback"][0]
    assert "fault_nodes.py" in data["traceback"][-1]


def test_torchs_memory_error_gets_its_name_and_a_tip(server: ComfyUI) -> None:
    entry = server.run({"1": node("TestOutOfMemory", message="CUDA out of memory.")})

    data = entry["status"]["messages"][-1][1]
    assert data["exception_type"] == "torch.OutOfMemoryError"
    assert data["exception_message"].startswith("CUDA out of memory.\nThis error means")


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


def test_a_long_chain_of_nodes_is_no_problem(server: ComfyUI) -> None:
    prompt = {"0": empty_image(12)}
    for index in range(1, 300):
        prompt[str(index)] = node("ImageInvert", image=[str(index - 1), 0])
    prompt["end"] = save("299", "chain")

    assert last_message(server.run(prompt)) == "execution_success"


def test_every_route_answers_under_api_too(server: ComfyUI) -> None:
    for path in ("/system_stats", "/queue", "/history", "/prompt", "/features", "/models"):
        assert server.get(f"/api{path}").status_code == 200, path
    assert server.get("/api/internal/logs").status_code == 404


def test_the_log_can_be_read_over_http(server: ComfyUI) -> None:
    server.run(image_prompt(13))

    assert "got prompt" in server.get("/internal/logs").json()
    assert server.get("/internal/logs/raw").json()["entries"]


def test_files_of_a_folder_are_listed(server: ComfyUI) -> None:
    server.run(image_prompt(14, "listed_file"))

    assert "listed_file_00001_.png" in server.get("/internal/files/output").json()
    assert server.get("/internal/files/elsewhere").status_code == 400


def test_pages_of_other_origins_are_refused(server: ComfyUI) -> None:
    other = server.get("/queue", headers={"Origin": "http://example.com"})
    own = server.get("/queue", headers={"Origin": server.url})

    assert (other.status_code, own.status_code) == (403, 200)


def test_models_are_listed_by_kind(server: ComfyUI) -> None:
    assert server.get("/models/nothing").status_code == 404
    assert server.get("/models/checkpoints").json() == []
    assert server.get("/embeddings").json() == []


def test_an_extra_node_of_any_type_passes_an_image_through(server: ComfyUI) -> None:
    prompt = {"1": empty_image(15), "2": node("TestSleep", seconds=0.1, any=["1", 0])}
    entry = server.run({**prompt, "3": save("2", "through")})

    assert entry["outputs"]["3"]["images"][0]["filename"] == "through_00001_.png"
