from __future__ import annotations

import json
import time
from itertools import islice
from typing import Any

import pytest

from worker_comfyui.request import job_secrets


def secrets_of(job: Any) -> list[str]:
    """Each secret once, without what is no secret for its shortness."""
    return list(dict.fromkeys(filter(None, job_secrets.secrets_of(job))))


def test_the_keys_of_a_request_and_of_its_bucket_are_secrets() -> None:
    job = {
        "id": "job-1",
        "input": {"workflow": {}, "comfy_org_api_key": "comfy-key"},
        "s3Config": {"accessId": "the-id", "accessSecret": "the-secret", "bucketName": "pictures"},
    }
    assert sorted(secrets_of(job)) == ["comfy-key", "the-id", "the-secret"]


def test_an_input_that_is_sent_as_text_is_looked_into() -> None:
    assert secrets_of({"input": json.dumps({"comfy_org_api_key": "comfy-key"})}) == ["comfy-key"]


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apikey",
        "apiKey",
        "API_KEY",
        "openai_api_key",
        "aws_access_key",
        "client_secret",
        "secret_key",
        "hf_token",
        "token",
        "password",
        "authorization",
        "Authorization",
        "x-api-key",
        "X-API-Key",
        "bearer",
        "hf-token",
        "auth_token_comfy_org",
        "6.api_key",
        "My node.apiKey",
    ],
)
def test_a_node_input_that_is_named_like_a_secret_is_one(name: str) -> None:
    workflow = {"1": {"class_type": "Any", "inputs": {name: "hidden"}}}
    assert secrets_of({"input": {"workflow": workflow}}) == ["hidden"]


@pytest.mark.parametrize(
    "name", ["text", "max_tokens", "token_normalization", "key", "keyframe", "secretary", "seed"]
)
def test_other_node_inputs_are_none(name: str) -> None:
    workflow = {"1": {"class_type": "Any", "inputs": {name: "shown"}}}
    assert secrets_of({"input": {"workflow": workflow}}) == []


@pytest.mark.parametrize("name", ["openai_key", "civitai-key", "openaiKey"])
def test_a_key_is_one_where_it_looks_like_one(name: str) -> None:
    def found(value: str) -> list[str]:
        return secrets_of({"input": {"workflow": {"1": {"inputs": {name: value}}}}})

    assert found("sk-proj-0123456789abcdef") == ["sk-proj-0123456789abcdef"]
    assert found("by date of creation") == []
    assert found("ascending-order-of-names") == []


def test_a_bearer_s_token_is_one_with_the_word_and_without() -> None:
    assert secrets_of({"input": {"headers": {"Authorization": "Bearer abcdefghijkl"}}}) == [
        "Bearer abcdefghijkl",
        "abcdefghijkl",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"Authorization": "Bearer %s"}',
        '{\\"x-api-key\\": \\"%s\\"}',
        "Authorization: Basic %s",
        "curl -H 'X-Api-Key: %s' https://example.com",
        "accept: */*\ncookie=%s",
    ],
)
def test_a_header_in_a_text_is_one(text: str) -> None:
    sent = {"workflow": {"1": {"inputs": {"headers": text % "QWxhZGRpbjpvcGVu"}}}}
    assert secrets_of({"input": sent}) == ["QWxhZGRpbjpvcGVu"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/file/bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/photos/a.jpg", True),
        ("/api/webhooks/1234/aB3dEfGhIjKlMnOpQrStUvWxYz012345/a.png", True),
        ("/api/webhooks/1234/aB3dEfGhIjKlMnOpQrStUvWxYz012345", True),
        ("/assets/0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0/image.png", False),
        ("/a-very-long-name-of-a-folder-in-2026/image.png", False),
        ("/photos/IMG_20260101_120000_portrait.jpg", False),
    ],
)
def test_a_token_in_a_url_s_path_is_one(path: str, found: bool) -> None:
    sent = {"images": [{"name": "a", "image": f"https://example.com{path}"}]}
    assert bool(secrets_of({"input": sent})) is found


def test_a_url_in_a_node_s_input_is_looked_into() -> None:
    inputs = {"url": "https://example.com/a.png?sig=0123456789abcdef"}
    found = secrets_of({"input": {"workflow": {"1": {"inputs": inputs}}}})
    assert "0123456789abcdef" in found


def test_a_huge_request_is_looked_into_quickly_and_from_its_top() -> None:
    inputs = {f"n{i}_token": f"secret-number-{i}" for i in range(290_000)}
    job = {"input": {"workflow": {"1": {"inputs": inputs}}, "comfy_org_api_key": "comfy-key"}}
    started = time.monotonic()
    found = list(islice(job_secrets.secrets_of(job), 64))
    assert time.monotonic() - started < 5
    assert found[0] == "comfy-key"
    assert len(found) == 64


def test_a_short_value_in_a_query_is_one_where_its_name_says_so() -> None:
    url = "https://models.example.com/a.safetensors?token=shorty7&sort_key=by-date"
    found = secrets_of({"input": {"models": [{"folder": "loras", "name": "a", "url": url}]}})
    assert found == ["token=shorty7&sort_key=by-date", "shorty7"]


def test_a_url_s_user_part_and_query_are_secrets() -> None:
    url = "https://user:pass%40word@host/a.png?size=512&sig=0123456789abcdef%2B"
    found = secrets_of({"input": {"images": [{"name": "a.png", "image": url}]}})
    assert found == [
        "user:pass%40word",
        "pass%40word",
        "size=512&sig=0123456789abcdef%2B",
        "0123456789abcdef+",
    ]


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"input": None},
        {"input": []},
        {"input": "{"},
        {"input": "[" * 100_000},
        {"input": {"workflow": [], "images": {}, "files": [None, {"data": 5}]}},
        {"input": {"workflow": {"1": None, "2": {"inputs": []}}}},
        {"input": {"images": [{"image": "http://[::1"}]}, "s3Config": "no"},
        {"input": {"comfy_org_api_key": 5}},
    ],
)
def test_a_malformed_job_has_no_secrets_and_does_no_harm(job: dict[str, Any]) -> None:
    assert secrets_of(job) == []
