from __future__ import annotations

import json
from typing import Any

import pytest

from worker_comfyui.redaction import secrets_of


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
