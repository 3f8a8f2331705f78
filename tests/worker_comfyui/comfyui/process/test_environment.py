from __future__ import annotations

import pytest

from worker_comfyui.comfyui.process.environment import for_comfyui, withheld

KEPT_BACK = (
    "RUNPOD_AI_API_KEY",
    "RUNPOD_API_KEY",
    "RUNPOD_WEBHOOK_GET_JOB",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "BUCKET_ACCESS_KEY_ID",
    "BUCKET_SECRET_ACCESS_KEY",
    "BUCKET_ENDPOINT_URL",
    "COMFY_ORG_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "CIVITAI_API_TOKEN",
    "CIVITAI_API_KEY",
    "GITHUB_TOKEN",
)
PASSED_ON = (
    "PATH",
    "HOME",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "PYTORCH_CUDA_ALLOC_CONF",
    "http_proxy",
    "AWS_CA_BUNDLE",
    "AWS_REGION",
    "OPENAI_API_KEY",
    "COMFYUI_PATH",
)


@pytest.mark.parametrize("name", KEPT_BACK)
def test_what_the_worker_signs_in_with_is_not_for_comfyui(name: str) -> None:
    assert name not in for_comfyui({name: "secret"}, ())
    assert withheld({name: "secret", "PATH": "/bin"}, ()) == {name}


@pytest.mark.parametrize("name", PASSED_ON)
def test_all_else_is(name: str) -> None:
    assert for_comfyui({name: "value"}, ())[name] == "value"


def test_the_operator_may_pass_single_ones_on() -> None:
    environ = dict.fromkeys(KEPT_BACK, "secret")
    passed = for_comfyui(environ, ("HF_TOKEN",))
    assert passed["HF_TOKEN"] == "secret"
    assert withheld(environ, ("HF_TOKEN",)) == set(KEPT_BACK) - {"HF_TOKEN"}


def test_programs_of_nodes_do_not_hold_back_what_they_print() -> None:
    assert for_comfyui({}, ())["PYTHONUNBUFFERED"] == "1"
