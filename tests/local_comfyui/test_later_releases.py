"""What ComfyUI learned after 0.3.64, which is not there in the real one of the recordings."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.local_comfyui.workflows import (
    empty_image,
    image_prompt,
    last_message,
    node,
    sleep_prompt,
    wait_until_running,
)
from tests.support.comfyui import ComfyUI, running_comfyui


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("later"), always_local=True) as comfyui:
        yield comfyui


@pytest.mark.parametrize(
    "prompt_id",
    ["job-1", "", 7, ["x"], "ABCDEF00-0000-4000-8000-000000000000", uuid.UUID(int=5).hex],
)
def test_a_prompt_id_must_be_a_plain_uuid(server: ComfyUI, prompt_id: object) -> None:
    response = server.post("/prompt", json={"prompt": image_prompt(), "prompt_id": prompt_id})

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_prompt_id"


def test_an_input_cannot_be_read_from_outside_the_input_folder(server: ComfyUI) -> None:
    (server.base / "outside.png").write_bytes(b"secret")
    prompt = {
        "1": node("LoadImage", image="../outside.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    response = server.post("/prompt", json={"prompt": prompt})

    errors = response.json()["node_errors"]["1"]["errors"]
    assert errors[0]["details"] == "image - Invalid image file: ../outside.png"


def test_a_malformed_node_that_nothing_needs_does_not_stop_later_prompts(server: ComfyUI) -> None:
    entry = server.run({**image_prompt(21), "3": {"class_type": "ImageInvert"}})

    assert last_message(entry) == "execution_error"
    assert last_message(server.run(image_prompt(22))) == "execution_success"


def test_jobs_tell_finished_running_waiting_and_unknown_apart(server: ComfyUI) -> None:
    workflow = {"extra_pnginfo": {"workflow": {"id": "workflow-1"}}}
    done = server.submit(image_prompt(1), extra_data=workflow)
    server.wait(done)
    failed = server.submit({"1": node("TestFail", message="no")})
    server.wait(failed)
    running = server.submit(sleep_prompt(20))
    wait_until_running(server, running)
    waiting = server.submit(image_prompt(2))
    ids = (done, failed, running, waiting)
    statuses = [server.get(f"/api/jobs/{job_id}").json()["status"] for job_id in ids]

    assert statuses == ["completed", "failed", "in_progress", "pending"]
    assert server.get(f"/api/jobs/{uuid.uuid4()}").status_code == 404
    job = server.get(f"/api/jobs/{done}").json()
    assert (job["outputs_count"], job["workflow_id"]) == (1, "workflow-1")
    assert list(job["outputs"]) == ["2"]
    assert server.post(f"/api/jobs/{waiting}/cancel").json() == {"cancelled": True}
    assert server.post(f"/api/jobs/{running}/cancel").json() == {"cancelled": True}
    assert last_message(server.wait(running)) == "execution_interrupted"
    assert server.get(f"/api/jobs/{running}").json()["status"] == "cancelled"
    assert server.post(f"/api/jobs/{running}/cancel").json() == {"cancelled": False}


def test_jobs_are_filtered_sorted_and_paged(server: ComfyUI) -> None:
    ids = [server.submit({"1": empty_image(5), **image_prompt(color)}) for color in range(3, 6)]
    server.wait(ids[-1])

    page = server.get("/api/jobs?status=completed&sort_order=asc&limit=1&offset=1").json()
    newest = server.get("/api/jobs?limit=1").json()["jobs"][0]

    assert page["pagination"]["total"] >= 3
    assert (len(page["jobs"]), page["pagination"]["has_more"]) == (1, True)
    assert newest["id"] == ids[-1]


@pytest.mark.parametrize(
    "query", ["status=unknown", "sort_by=name", "sort_order=up", "limit=x", "offset=y"]
)
def test_a_bad_query_for_jobs_is_refused(server: ComfyUI, query: str) -> None:
    assert server.get(f"/api/jobs?{query}").status_code == 400


@pytest.mark.parametrize("body", [[], {}, {"job_ids": "x"}, {"job_ids": ["no-uuid"]}])
def test_a_bad_list_of_jobs_to_cancel_is_refused(server: ComfyUI, body: object) -> None:
    assert server.post("/api/jobs/cancel", json=body).status_code == 400


def test_several_jobs_are_cancelled_at_once(server: ComfyUI) -> None:
    running = server.submit(sleep_prompt(20))
    waiting = server.submit(image_prompt(9))
    wait_until_running(server, running)

    answer = server.post("/api/jobs/cancel", json={"job_ids": [waiting, running]})

    assert answer.json() == {"cancelled": True}
    assert last_message(server.wait(running)) == "execution_interrupted"
