from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from local_runpod.client.request_file import RequestFileError, attach, load_request, override

WORKFLOW = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}


@pytest.mark.parametrize(
    ("content", "request_body"),
    [
        (WORKFLOW, {"input": {"workflow": WORKFLOW}}),
        ({"workflow": WORKFLOW, "images": []}, {"input": {"workflow": WORKFLOW, "images": []}}),
        ({"input": {"workflow": WORKFLOW}, "webhook": "http://h/"}, None),
        ({"workflow": "stored", "x": 1}, {"input": {"workflow": "stored", "x": 1}}),
        ({"nodes": [], "links": []}, {"input": {"workflow": {"nodes": [], "links": []}}}),
    ],
    ids=["workflow", "input", "request", "a stored name", "the editor's format"],
)
def test_what_is_only_a_part_of_a_request_is_wrapped(
    tmp_path: Path, content: Any, request_body: Any
) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    assert load_request(path) == (request_body or content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{", "not JSON"), (b"[]", "must hold a JSON object"), (None, "No such")],
)
def test_a_file_that_cannot_be_sent_is_explained(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestFileError, match=reason) as caught:
        load_request(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "image/png"),
        ("a.webp", "image/webp"),
        ("a.mp4", "video/mp4"),
        ("a.json", "application/json"),
        ("a", "application/octet-stream"),
    ],
)
def test_a_file_that_is_no_text_is_sent_as_the_workflow(
    tmp_path: Path, name: str, kind: str
) -> None:
    content = b"\x89PNG\r\n\x1a\n\0\0"
    (tmp_path / name).write_bytes(content)
    uri = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    assert load_request(tmp_path / name) == {"input": {"workflow": uri}}


def test_json_of_other_encodings_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(json.dumps(WORKFLOW), encoding=encoding)
        assert load_request(path) == {"input": {"workflow": WORKFLOW}}


@pytest.mark.parametrize("setting", ["6.text", "text=cat", "=x", ".=x", "6.=x"])
def test_a_setting_of_another_form_is_explained(setting: str) -> None:
    with pytest.raises(RequestFileError, match=r"NODE\.INPUT=VALUE"):
        override({"input": {}}, [setting])


def test_local_files_are_attached_under_their_own_or_another_name(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"\x89PNG")
    data = base64.b64encode(b"\x89PNG").decode()
    request: dict[str, Any] = {
        "input": {"images": [{"name": "a.png", "image": "old"}, {"name": "b.png", "image": "kept"}]}
    }
    attach(request, images=[f"a.png={path}", str(path)], files=[f"voice.wav={path}"])
    assert request["input"] == {
        "images": [
            {"name": "b.png", "image": "kept"},
            {"name": "a.png", "image": data},
            {"name": "cat.png", "image": data},
        ],
        "files": [{"name": "voice.wav", "data": data}],
    }


def test_a_path_that_holds_an_equals_sign_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a=b.png"
    path.write_bytes(b"x")
    request: dict[str, Any] = {"input": {}}
    attach(request, images=[str(path)])
    assert request["input"]["images"][0]["name"] == "a=b.png"


def test_a_missing_attachment_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestFileError, match=r"nothing\.png: No such file"):
        attach({"input": {}}, images=[f"a.png={tmp_path}/nothing.png"])
