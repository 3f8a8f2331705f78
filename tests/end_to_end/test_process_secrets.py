from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.comfyui import FAULT_NODES
from tests.support.handler import (
    handler_environment,
    on_platform,
    recorded_posts,
    running_endpoint,
    running_handler,
)
from tests.support.platform import running_platform
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, serving_s3
from tests.support.workflows import node, saved_input

TALKATIVE_NODES = '''
import hashlib


class TestTalkative:
    """Prints and returns what it should keep to itself, then fails if asked to."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"api_key": ("STRING", {"default": ""}), "fail": ("BOOLEAN", {})},
            "hidden": {"comfy_key": "API_KEY_COMFY_ORG"},
        }

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def run(self, api_key, fail, comfy_key=None):
        print(f"the keys are {api_key!r} and {comfy_key!r}", flush=True)
        digest = hashlib.sha256(f"{api_key} {comfy_key}".encode()).hexdigest()
        if fail:
            raise RuntimeError(f"401: {api_key} and {comfy_key} are not valid ({digest})")
        return {"ui": {"text": [f"{api_key} {comfy_key}", digest]}}


class TestTokenNumber(TestTalkative):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"token": ("INT", {})}}


NODE_CLASS_MAPPINGS = {"TestTalkative": TestTalkative, "TestTokenNumber": TestTokenNumber}
'''

COMFY_ORG_OF_THE_ENDPOINT = "comfyui-endpoint-0123456789"
COMFY_ORG_OF_THE_CALLER = "comfyui-caller-9876543210"
PLATFORM = "platform-key-of-the-worker"
IN_WORKFLOW = 'sk-wörk"flow\\secret/4711+x'
URL_PASSWORD = "url-password-31415"
URL_TOKEN = "url-token-2718281828"
CALLERS_ACCESS = "callers-access-key-id"
CALLERS_SECRET = "callers/secret+access==key"
SECRETS = [
    COMFY_ORG_OF_THE_ENDPOINT,
    COMFY_ORG_OF_THE_CALLER,
    PLATFORM,
    IN_WORKFLOW,
    URL_PASSWORD,
    URL_TOKEN,
    CALLERS_ACCESS,
    CALLERS_SECRET,
    ACCESS_KEY,
    SECRET_KEY,
]


def written_forms(secret: str) -> list[str]:
    """How a secret may be written in a log: as it is, in JSON, in JSON in JSON, in a URL."""
    in_json = json.dumps(secret)[1:-1]
    return [secret, in_json, json.dumps(in_json)[1:-1], quote(secret, safe=""), repr(secret)[1:-1]]


def test_no_secret_is_in_any_log_or_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    talkative = tmp_path / "talkative_nodes.py"
    talkative.write_text(TALKATIVE_NODES)
    caplog.set_level(logging.DEBUG, logger="local_runpod")
    with serving_s3(tmp_path / "s3") as s3:
        s3.make_bucket("pictures")
        variables = {
            "LOG_LEVEL": "DEBUG",
            "COMFY_LOG_LEVEL": "DEBUG",
            "WEBSOCKET_TRACE": "true",
            "RUNPOD_LOG_LEVEL": "DEBUG",
            "ALLOW_PRIVATE_INPUT_URLS": "true",
            "COMFY_ORG_API_KEY": COMFY_ORG_OF_THE_ENDPOINT,
            "BUCKET_ENDPOINT_URL": s3.url,
            "BUCKET_NAME": "pictures",
            "BUCKET_ACCESS_KEY_ID": ACCESS_KEY,
            "BUCKET_SECRET_ACCESS_KEY": SECRET_KEY,
            # A presigned URL names its access key, by the rules of S3.
            "BUCKET_PUBLIC_URL": "https://pictures.example",
        }
        base = tmp_path / "base"
        with running_endpoint(base, extra_nodes=(FAULT_NODES, talkative), **variables) as (
            platform,
            handler,
        ):
            posts = recorded_posts(platform)

            # The keys arrive where they are needed, and a node that repeats them is masked.
            job = platform.run_sync({"workflow": talk(), "comfy_org_api_key": "comfy" + "x" * 20})
            assert job["status"] == "COMPLETED"
            texts = [item["text"] for item in job["output"]["texts"]]
            assert texts == ["*** ***", digest(IN_WORKFLOW, "comfy" + "x" * 20)]

            job = platform.run_sync({"workflow": talk()})
            assert digest(IN_WORKFLOW, COMFY_ORG_OF_THE_ENDPOINT) in str(job["output"]["texts"])

            job = platform.run_sync(
                {"workflow": talk(fail=True), "comfy_org_api_key": COMFY_ORG_OF_THE_CALLER}
            )
            assert job["error"].startswith("EXECUTION_FAILED: ")
            assert "401: *** and *** are not valid" in job["error"]
            assert digest(IN_WORKFLOW, COMFY_ORG_OF_THE_CALLER) in job["error"]

            # A refused prompt, whose error repeats what was received.
            job = platform.run_sync({"workflow": {"1": node("TestTokenNumber", token=IN_WORKFLOW)}})
            assert job["error"].startswith("PROMPT_REJECTED: ")
            assert job["output"]["details"][0]["received"] == "***"

            # Inputs that cannot be downloaded, or need what is in their address.
            for port in ("1", s3.address.rpartition(":")[2]):
                url = f"http://user:{URL_PASSWORD}@127.0.0.1:{port}/a.png?token={URL_TOKEN}"
                image = {"name": "a.png", "image": url}
                job = platform.run_sync({"workflow": saved_input("a.png"), "images": [image]})
                assert job["status"] == "FAILED"

            # A bucket of the caller's that refuses the keys.
            config = {
                "endpointUrl": s3.url,
                "accessId": CALLERS_ACCESS,
                "accessSecret": CALLERS_SECRET,
                "bucketName": "pictures",
            }
            image = {"name": "b.png", "image": PIXEL}
            request = {"workflow": saved_input("b.png"), "images": [image]}
            job = platform.run_sync(request, s3Config=config)
            assert job["status"] == "COMPLETED"
            assert job["output"]["images"][0]["type"] == "base64"
            assert "'pictures'" in job["output"]["errors"][0]

            # The endpoint's own bucket.
            job = platform.run_sync(request)
            assert job["output"]["images"][0]["data"].startswith("https://pictures.example/")
            log = handler.log()

        printed = {
            "the worker's log": log,
            "the platform's log": caplog.text,
            "results": json.dumps([post.body for post in posts], ensure_ascii=False),
        }
        assert "the keys are" in log
        assert "++Rcv decoded" in log
        for where, text in printed.items():
            for secret in SECRETS:
                for form in written_forms(secret):
                    assert form not in text, f"{where} has {secret}"


def talk(*, fail: bool = False) -> dict[str, dict[str, object]]:
    return {"1": node("TestTalkative", api_key=IN_WORKFLOW, fail=fail)}


def digest(api_key: str, comfy_key: str) -> str:
    return hashlib.sha256(f"{api_key} {comfy_key}".encode()).hexdigest()


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def test_websocket_frames_are_not_logged_unless_asked_for(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as (platform, handler):
        workflow = {"1": node("TestSleepOutput", seconds=0.1)}
        assert platform.run_sync({"workflow": workflow})["status"] == "COMPLETED"
        assert "Rcv" not in handler.log()


def test_in_production_every_line_of_the_log_is_one_json_object(tmp_path: Path) -> None:
    arguments = ["--rp_log_level", "INFO"]  # of which the SDK prints a line
    with running_platform() as platform:
        environment = handler_environment(tmp_path, **on_platform(platform))
        with running_handler(tmp_path, environment, arguments=arguments) as handler:
            platform.run_sync({"workflow": {"1": node("TestFail", message="two\nlines")}})
            handler.process.terminate()
            handler.wait(10)
        lines = handler.log().splitlines()
    banner = [line for line in lines if line.startswith("--- Starting Serverless Worker")]
    parsed = [json.loads(line) for line in lines if line not in banner]
    assert len(banner) == 1
    assert {line["source"] for line in parsed} == {"worker", "comfyui", "runpod"}
    for line in parsed:
        assert {"time", "level", "message"} <= line.keys()
