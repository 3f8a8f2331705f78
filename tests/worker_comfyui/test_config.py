from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from worker_comfyui.config import Secret, Settings
from worker_comfyui.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {field.metadata["name"]: field for field in fields(Settings)}
BUCKET = {
    "BUCKET_ENDPOINT_URL": "https://my-bucket.s3.eu-central-1.amazonaws.com",
    "BUCKET_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "BUCKET_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}


def refusal(**environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(environ)
    return str(caught.value)


def documented() -> dict[str, str]:
    """The rows of the tables in docs/configuration.md: name → default."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    return dict(re.findall(r"^\| `([A-Z0-9_]+)` \| (\S+) \| \S.*\|$", text, re.MULTILINE))


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


@pytest.mark.parametrize("empty", ["", "  ", "\t\n"])
def test_an_empty_variable_counts_as_unset(empty: str) -> None:
    assert Settings.from_env(dict.fromkeys(FIELDS, empty)) == Settings()


def test_variables_of_others_are_not_read() -> None:
    assert Settings.from_env({"PATH": "/bin", "RUNPOD_POD_ID": "x", "COMFY": "y"}) == Settings()


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("REFRESH_WORKER", False),
        ("SERVE_API_LOCALLY", False),
        ("COMFY_ORG_API_KEY", None),
        ("NETWORK_VOLUME_DEBUG", False),
        ("WEBSOCKET_RECONNECT_ATTEMPTS", 5),
        ("WEBSOCKET_RECONNECT_DELAY_S", 3),
        ("WEBSOCKET_TRACE", False),
        ("COMFY_API_AVAILABLE_INTERVAL_MS", 50),
        ("COMFY_API_AVAILABLE_MAX_RETRIES", 0),
        ("BUCKET_ENDPOINT_URL", None),
        ("BUCKET_ACCESS_KEY_ID", None),
        ("BUCKET_SECRET_ACCESS_KEY", None),
        # There DEBUG, which its own documentation advises against in production.
        ("COMFY_LOG_LEVEL", "INFO"),
    ],
)
def test_a_variable_of_the_existing_worker_has_its_default(name: str, default: Any) -> None:
    assert getattr(Settings(), FIELDS[name].name) == default


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("COMFYUI_PATH", "/opt/ComfyUI", Path("/opt/ComfyUI")),
        ("COMFYUI_ARGS", "--reserve-vram 2 --x 'a b'", ("--reserve-vram", "2", "--x", "a b")),
        ("COMFY_HOST", "127.0.0.1:8188", "127.0.0.1:8188"),
        ("COMFY_HOST", "[::1]:8188", "[::1]:8188"),
        ("COMFY_HOST", "comfy.internal:80", "comfy.internal:80"),
        ("COMFY_LOG_LEVEL", "warning", "WARNING"),
        ("LOG_LEVEL", "warn", "WARNING"),
        ("COMFY_LOG_LEVEL", "Warn", "WARNING"),
        ("COMFY_ENV_PASS", "HF_TOKEN, AWS_PROFILE  X", ("HF_TOKEN", "AWS_PROFILE", "X")),
        ("LOG_FORMAT", "JSON", "json"),
        ("REFRESH_WORKER", "True", True),
        ("REFRESH_WORKER", "1", True),
        ("REFRESH_WORKER", "off", False),
        ("WORKER_CONCURRENCY", "3", 3),
        ("WEBSOCKET_RECONNECT_DELAY_S", " 0.5 ", 0.5),
        ("COMFY_ORG_API_KEY", "comfyui-123456", Secret("comfyui-123456")),
        ("MAX_RESULT_MB", "5", 5.0),
    ],
)
def test_a_variable_is_read(name: str, text: str, value: Any) -> None:
    settings = Settings.from_env({name: text})
    assert settings == replace(Settings(), **{FIELDS[name].name: value})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("REFRESH_WORKER", "maybe", "must be true or false"),
        ("WORKER_CONCURRENCY", "0", "must be at least 1 and at most 100"),
        ("WORKER_CONCURRENCY", "1.5", "must be a whole number"),
        ("WORKER_CONCURRENCY", "many", "must be a number"),
        ("COMFY_MAX_RESTARTS", "inf", "must be a finite number"),
        ("COMFY_MAX_RESTARTS", "-1", "must be at least 0"),
        ("MAX_INPUT_MB", "inf", "must be a finite number"),
        ("MAX_INPUT_MB", "nan", "must be a finite number"),
        ("JOB_TIMEOUT_S", "1e999", "must be a finite number"),
        ("BUCKET_URL_EXPIRY_S", "604801", "must be at least 1 and at most 604800"),
        ("COMFY_LOG_LEVEL", "LOUD", "must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("COMFY_HOST", "127.0.0.1", "must be host:port, like 127.0.0.1:8188"),
        ("COMFY_HOST", "http://127.0.0.1:8188", "must be host:port, like 127.0.0.1:8188"),
        ("COMFY_HOST", "127.0.0.1:8188/", "must be host:port, like 127.0.0.1:8188"),
        ("COMFY_HOST", "127.0.0.1:99999", "must be host:port, like 127.0.0.1:8188"),
        ("COMFY_HOST", ":8188", "must be host:port, like 127.0.0.1:8188"),
        ("COMFYUI_ARGS", "--x 'unclosed", "must be words, quoted as in a shell"),
        ("BUCKET_PUBLIC_URL", "cdn.example.com", "must be an address like https://host/path"),
        ("BUCKET_PUBLIC_URL", "ftp://example.com", "must be an address like https://host/path"),
        ("BUCKET_PUBLIC_URL", "https://h:70000", "must be an address like https://host/path"),
        ("BUCKET_PUBLIC_URL", "https://[::1", "must be an address like https://host/path"),
        ("BUCKET_PUBLIC_URL", "https://", "must be an address like https://host/path"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_was_received(
    name: str, text: str, message: str
) -> None:
    assert (
        refusal(**{name: text, **BUCKET}) == f"CONFIGURATION_ERROR: {name} {message}, not {text!r}"
    )


def test_every_problem_is_reported_at_once() -> None:
    message = refusal(
        REFRESH_WORKER="maybe",
        WORKER_CONCURRENCY="none",
        COMFY_HOST="nowhere",
        BUCKET_NAME="results",
    )
    for name in ("REFRESH_WORKER", "WORKER_CONCURRENCY", "COMFY_HOST", "BUCKET_ENDPOINT_URL"):
        assert name in message
    assert message.count(";") == 3


@pytest.mark.parametrize("left_out", [name for name in BUCKET if "KEY" in name])
def test_a_bucket_with_a_part_missing_is_refused(left_out: str) -> None:
    message = refusal(**{name: text for name, text in BUCKET.items() if name != left_out})
    assert f"{left_out} must be set as well" in message


@pytest.mark.parametrize("alone", ["BUCKET_NAME", "BUCKET_PUBLIC_URL"])
def test_a_bucket_s_name_alone_is_no_bucket(alone: str) -> None:
    message = refusal(**{alone: "https://cdn.example.com"})
    assert " and ".join(BUCKET) in message


def test_keys_alone_are_no_bucket_as_for_the_existing_worker() -> None:
    settings = Settings.from_env({name: BUCKET[name] for name in BUCKET if "KEY" in name})
    assert settings.bucket_location() is None


def test_an_address_without_a_bucket_is_reported_with_all_the_rest() -> None:
    address = "https://s3.eu-west-1.amazonaws.com"
    message = refusal(**{**BUCKET, "BUCKET_ENDPOINT_URL": address, "REFRESH_WORKER": "maybe"})
    assert "REFRESH_WORKER must be" in message
    assert (
        "BUCKET_ENDPOINT_URL does not contain the bucket's name; give it as BUCKET_NAME" in message
    )


def test_a_wrong_bucket_address_is_not_called_missing_as_well() -> None:
    message = refusal(**{**BUCKET, "BUCKET_ENDPOINT_URL": "my-bucket"})
    assert message.count("BUCKET_ENDPOINT_URL") == 1


def test_a_whole_bucket_is_taken() -> None:
    settings = Settings.from_env(BUCKET)
    assert settings.bucket_endpoint_url == BUCKET["BUCKET_ENDPOINT_URL"]
    assert settings.bucket_secret_access_key == Secret(BUCKET["BUCKET_SECRET_ACCESS_KEY"])


def test_secrets_mask_themselves_wherever_settings_are_printed() -> None:
    settings = Settings.from_env({**BUCKET, "COMFY_ORG_API_KEY": "comfyui-key-123456"})
    shown = f"{settings} {settings!r} {settings.comfy_org_api_key}"
    shown += f" {settings.comfy_org_api_key!r:>5} {[settings.bucket_secret_access_key]}"
    assert settings.secrets()
    for secret in settings.secrets():
        assert secret not in shown


def test_all_keys_are_secrets() -> None:
    named = {name for name in FIELDS if name.endswith(("_KEY", "_KEY_ID", "_TOKEN"))}
    assert named == {name for name, f in FIELDS.items() if f.metadata["parse"] is Secret}
    settings = Settings.from_env({**BUCKET, "COMFY_ORG_API_KEY": "comfyui-key-123456"})
    assert set(settings.secrets()) == {
        "comfyui-key-123456",
        BUCKET["BUCKET_ACCESS_KEY_ID"],
        BUCKET["BUCKET_SECRET_ACCESS_KEY"],
    }


def test_a_password_in_an_address_is_not_repeated_in_the_error() -> None:
    message = refusal(**{**BUCKET, "BUCKET_ENDPOINT_URL": "https://me:hunter2222@s3.example.com"})
    assert message == (
        "CONFIGURATION_ERROR: BUCKET_ENDPOINT_URL must be an address like https://host/path"
    )


def test_documentation_and_settings_have_the_same_variables() -> None:
    assert set(documented()) == set(FIELDS)


def test_documentation_and_settings_have_the_same_defaults() -> None:
    defaults = Settings()
    for name, text in documented().items():
        field = FIELDS[name]
        default = getattr(defaults, field.name)
        if text == "unset":
            assert default in (None, (), ""), name
        else:
            assert text.startswith("`"), name
            assert text.endswith("`"), name
            assert field.metadata["parse"](text[1:-1]) == default, name


def test_every_setting_says_what_it_is() -> None:
    for name, field in FIELDS.items():
        assert field.metadata["description"].endswith("."), name
