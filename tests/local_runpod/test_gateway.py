"""The client side, without workers: jobs stay where they are."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from tests.support.platform import FAST, RunningPlatform, running_platform


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningPlatform]:
    with running_platform() as running:
        yield running


def problem(response: requests.Response) -> tuple[int, str]:
    """The code and the reason of an error, whose shape is checked."""
    body = response.json()
    assert response.headers["Content-Type"].startswith("application/json")
    assert set(body) == {"status", "title", "detail"}
    assert body["status"] == response.status_code
    return response.status_code, body["detail"]


@pytest.mark.parametrize("prefix", ["", "/v2/any-id", "//v2//any-id/", "/v2/any-id//"])
def test_operations_work_bare_and_under_any_endpoint(gateway: RunningPlatform, prefix: str) -> None:
    job = gateway.post(f"{prefix}/run", {"input": {"x": 1}}).json()
    assert gateway.get(f"{prefix}/status/{job['id']}").json() == job
    assert job["status"] == "IN_QUEUE"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("operation", ["status", "status-sync", "stream"])
def test_questions_about_a_job_can_be_asked_with_get_and_post(
    gateway: RunningPlatform, method: str, operation: str
) -> None:
    url = f"{gateway.url}/{operation}/{gateway.run({})}?wait=10"
    response = requests.request(method, url, timeout=10)
    assert response.status_code == 200
    assert response.json()["status"] == "IN_QUEUE"


def test_unknown_jobs_are_the_hosted_404(gateway: RunningPlatform) -> None:
    for operation in ("status", "status-sync", "stream"):
        response = gateway.get(f"/{operation}/nobody-u1")
        assert response.json() == {"status": 404, "title": "Not Found", "detail": "job not found"}
        assert response.status_code == 404
    for operation in ("cancel", "retry"):
        assert problem(gateway.post(f"/{operation}/nobody-u1")) == (404, "job not found")


def test_unknown_paths_name_the_known_ones(gateway: RunningPlatform) -> None:
    for path in ("/v2/ep", "/nothing", "/run/more", "/status"):
        status, detail = problem(gateway.get(path))
        assert status == 404
        assert "/runsync" in detail


def test_a_wrong_method_names_the_right_one(gateway: RunningPlatform) -> None:
    response = gateway.get("/run")
    assert problem(response) == (405, "/run takes POST, not GET")
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"input": NaN}', "NaN is not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "must be a JSON object"),
        (b"{}", "input: missing"),
        (b'{"input": null}', "input: missing"),
        (b'{"input": {}, "webhook": 7}', "webhook: must be an http(s) URL"),
        (b'{"input": {}, "webhook": "ftp://h/"}', "webhook: must be an http(s) URL"),
        (b'{"input": {}, "webhook": "http://[/"}', "webhook: must be an http(s) URL"),
        (b'{"input": {}, "s3Config": "x"}', "s3Config: must be an object"),
        (b'{"input": {}, "policy": []}', "policy: must be an object"),
        (b'{"input": {}, "policy": {"ttl": "1"}}', "policy.ttl: must be milliseconds"),
        (b'{"input": {}, "policy": {"ttl": true}}', "policy.ttl: must be milliseconds"),
        (b'{"input": {}, "policy": {"executionTimeout": 1}}', "policy.executionTimeout: must be"),
    ],
)
@pytest.mark.parametrize("operation", ["run", "runsync"])
def test_malformed_requests_are_refused_with_the_reason(
    gateway: RunningPlatform, operation: str, body: bytes, reason: str
) -> None:
    status, detail = problem(gateway.post(f"/{operation}", body))
    assert status == 400
    assert detail.startswith("bad request: ")
    assert reason in detail


def test_unknown_keys_empty_input_and_an_empty_webhook_are_tolerated(
    gateway: RunningPlatform,
) -> None:
    body = {"input": {}, "timeout": 5, "webhook": "", "policy": None, "webhookV2": None}
    assert gateway.post("/run", body).status_code == 200


@pytest.mark.parametrize(
    ("operation", "limit", "text"),
    [("run", 10 * 1024 * 1024, "10MiB"), ("runsync?wait=10", 20_000_000, "20MB")],
)
def test_bodies_over_the_limit_are_a_400_as_hosted(
    gateway: RunningPlatform, operation: str, limit: int, text: str
) -> None:
    shell = len(json.dumps({"input": {"x": ""}}))
    fits = json.dumps({"input": {"x": "y" * (limit - shell)}}).encode()
    assert gateway.post(f"/{operation}", fits).status_code == 200
    expected = (400, f"bad request: body: exceeded max body size of {text}")
    assert problem(gateway.post(f"/{operation}", fits + b" ")) == expected


def test_a_chunked_body_over_the_limit_is_refused_too(gateway: RunningPlatform) -> None:
    chunks = (b" " * 1_000_000 for _ in range(12))
    response = requests.post(f"{gateway.url}/run", data=chunks, timeout=30)
    assert problem(response)[0] == 400


def test_runsync_answers_with_the_state_when_its_wait_is_over(gateway: RunningPlatform) -> None:
    job = gateway.post("/runsync?wait=50", {"input": {}}).json()
    assert job["status"] == "IN_QUEUE"
    assert job["id"].startswith("sync-")
    assert gateway.status(job["id"])["status"] == "IN_QUEUE"


def test_a_wait_that_is_no_number_is_refused(gateway: RunningPlatform) -> None:
    for wait in ("x", "-1", "nan", ""):
        assert problem(gateway.post(f"/runsync?wait={wait}", {"input": {}}))[0] == 400


def test_status_sync_is_held_until_the_job_is_over(gateway: RunningPlatform) -> None:
    job_id = gateway.run({})
    began = time.monotonic()
    threading.Timer(0.3, gateway.post, [f"/cancel/{job_id}"]).start()
    assert gateway.get(f"/status-sync/{job_id}?wait=20000").json()["status"] == "CANCELLED"
    assert 0.2 < time.monotonic() - began < 5


def test_a_client_that_goes_away_does_not_end_its_job(gateway: RunningPlatform) -> None:
    marker = f"left-{time.monotonic()}"
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{gateway.url}/runsync", json={"input": {"x": marker}}, timeout=0.2)
    platform = gateway.background.platform
    jobs = gateway.background.call(lambda: platform.queue.take("w", 1000))
    gateway.background.call(lambda: platform.queue.give_back(jobs))
    assert [job.status for job in jobs if job.request["input"].get("x") == marker] == ["IN_QUEUE"]


def test_cancel_takes_an_empty_post_with_a_json_content_type(gateway: RunningPlatform) -> None:
    job_id = gateway.run({})
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{gateway.url}/cancel/{job_id}", headers=headers, timeout=10).json()
    assert answer == {"id": job_id, "status": "CANCELLED"}
    assert gateway.post(f"/cancel/{job_id}").json() == answer


def test_only_failures_can_be_retried(gateway: RunningPlatform) -> None:
    assert problem(gateway.post(f"/retry/{gateway.run({})}"))[0] == 400


def test_a_ttl_query_shortens_the_jobs_life(gateway: RunningPlatform) -> None:
    job_id = gateway.run({})
    assert gateway.get(f"/status/{job_id}?ttl=300").status_code == 200
    time.sleep(0.6)
    assert problem(gateway.get(f"/status/{job_id}")) == (404, "job not found")


def test_a_waiting_client_learns_that_the_ttl_is_over(gateway: RunningPlatform) -> None:
    job = gateway.run_sync({}, policy={"ttl": 300})
    assert job == {"id": job["id"], "status": "TIMED_OUT"}


def test_pages_of_other_origins_cannot_submit_jobs(gateway: RunningPlatform) -> None:
    foreign = ("http://evil.example", "null", "http://[")
    for origin in foreign:
        assert problem(gateway.post("/run", {"input": {}}, {"Origin": origin}))[0] == 403
    own = {"Origin": gateway.url}
    assert gateway.post("/run", {"input": {}}, own).status_code == 200
    port = gateway.url.rpartition(":")[2]
    for host, status in (("localhost", 200), ("[::1]", 200), ("evil.example", 403)):
        rebound = {"Origin": f"http://{host}:{port}", "Host": f"{host}:{port}"}
        assert gateway.post("/run", {"input": {}}, rebound).status_code == status, host


def preflight(gateway: RunningPlatform, path: str) -> requests.Response:
    """What a browser asks before a page of another origin may send a job."""
    headers = {
        "Origin": "http://other.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return requests.options(gateway.url + path, headers=headers, timeout=10)


def test_pages_of_other_origins_may_ask_with_a_key(keyed_gateway: RunningPlatform) -> None:
    asked = preflight(keyed_gateway, "/v2/ep/run")
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    headers = {"Origin": "http://other.example", "Authorization": "Bearer first"}
    answer = keyed_gateway.post("/run", {"input": {}}, headers)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    refused = keyed_gateway.post("/run", {"input": {}}, {"Origin": "http://other.example"})
    assert problem(refused)[0] == 401
    assert refused.headers["Access-Control-Allow-Origin"] == "*"  # the page may read why


def test_without_keys_no_page_of_another_origin_is_let_in(gateway: RunningPlatform) -> None:
    for answer in (preflight(gateway, "/run"), gateway.get("/health"), gateway.get("/")):
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/openapi.json"])
def test_what_tells_nothing_of_anybody_needs_no_key(
    keyed_gateway: RunningPlatform, path: str
) -> None:
    assert keyed_gateway.get(path).status_code == 200
    assert problem(keyed_gateway.get("/jobs"))[0] == 401


def test_jobs_are_listed_newest_first_without_what_was_sent() -> None:
    with running_platform() as gateway:
        secret = {"comfy_org_api_key": "s3cret", "workflow": "s3cret"}
        job_ids = [
            gateway.run(
                secret, webhook="http://127.0.0.1:1/s3cret", s3Config={"accessId": "s3cret"}
            )
            for _ in range(2)
        ]
        gateway.post(f"/cancel/{job_ids[1]}")
        answer = gateway.get("/jobs")
        assert "s3cret" not in answer.text
        listed = answer.json()["jobs"]
        assert [(job["id"], job["status"]) for job in listed] == [
            (job_ids[1], "CANCELLED"),
            (job_ids[0], "IN_QUEUE"),
        ]
        assert abs(listed[0]["queuedAt"] / 1000 - time.time()) < 10


def test_purge_and_health_have_the_hosted_shape() -> None:
    with running_platform() as gateway:
        for _ in range(2):
            gateway.run({})
        assert gateway.post("/purge-queue").json() == {"removed": 2, "status": "completed"}
        gateway.run({})
        assert gateway.health() == {
            "jobs": {
                "completed": 0,
                "failed": 0,
                "inProgress": 0,
                "inQueue": 1,
                "retried": 0,
            },
            "workers": {
                "idle": 0,
                "initializing": 0,
                "ready": 0,
                "running": 0,
                "throttled": 0,
                "unhealthy": 0,
            },
        }


def test_a_full_queue_answers_429_with_retry_after() -> None:
    with running_platform(limits=replace(FAST, queue_length=1)) as gateway:
        gateway.run({})
        response = gateway.post("/run", {"input": {}})
        assert problem(response)[0] == 429
        assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, 401),
        ("", 401),
        ("Bearer wrong", 401),
        ("Bearer ", 401),
        ("Bearer first", 200),
        ("second", 200),
        ("Bearer ключ", 401),
    ],
)
def test_configured_keys_are_asked_for(
    keyed_gateway: RunningPlatform, authorization: str | None, code: int
) -> None:
    headers: dict[str, Any] = {}
    if authorization is not None:
        headers["Authorization"] = authorization.encode()
    response = keyed_gateway.get("/health", headers)
    assert response.status_code == code
    if code == 401:
        assert "Authorization" in problem(response)[1]


@pytest.fixture(scope="module")
def keyed_gateway() -> Iterator[RunningPlatform]:
    with running_platform(api_keys=("first", "second")) as running:
        yield running
