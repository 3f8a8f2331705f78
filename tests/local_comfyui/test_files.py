from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from tests.local_comfyui.workflows import image_prompt
from tests.support.comfyui import ComfyUI


def png(color: str | tuple[int, ...], mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (4, 4), color).save(buffer, "PNG")
    return buffer.getvalue()


def upload(server: ComfyUI, name: str, content: bytes, **fields: str) -> tuple[int, dict[str, str]]:
    response = server.post("/upload/image", files={"image": (name, content)}, data=fields)
    return response.status_code, response.json() if response.ok else {}


def test_an_upload_may_overwrite(server: ComfyUI) -> None:
    upload(server, "over.png", png("red"))
    status, answer = upload(server, "over.png", png("blue"), overwrite="1")

    assert (status, answer["name"]) == (200, "over.png")
    assert (server.base / "input" / "over.png").read_bytes() == png("blue")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("../escape.png", {}),
        ("x.png", {"subfolder": "../.."}),
        ("x.png", {"subfolder": "/outside"}),
    ],
)
def test_an_upload_cannot_leave_its_folder(
    server: ComfyUI, name: str, fields: dict[str, str]
) -> None:
    status, _ = upload(server, name, png("red"), **fields)

    assert status == 400


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 404),
        ("filename=nothing.png", 404),
        ("filename=../x.png", 400),
        ("filename=/etc/passwd", 400),
        ("filename=x.png&type=elsewhere", 400),
        ("filename=passwd&subfolder=../../../../etc", 403),
        ("filename=passwd&subfolder=/etc", 403),
    ],
)
def test_view_refuses_with_an_empty_body(server: ComfyUI, query: str, status: int) -> None:
    response = server.get(f"/view?{query}")

    assert (response.status_code, response.content) == (status, b"")


def test_view_gives_the_file_or_a_part_of_it(server: ComfyUI) -> None:
    content = png("green")
    upload(server, "part.png", content)
    whole = server.get("/view?filename=part.png&type=input")
    annotated = server.get("/view", params={"filename": "part.png [input]"})
    part = server.get("/view?filename=part.png&type=input", headers={"Range": "bytes=0-7"})

    assert whole.content == annotated.content == content
    assert whole.headers["Content-Type"] == "image/png"
    assert whole.headers["Content-Disposition"] == 'filename="part.png"'
    assert (part.status_code, part.content) == (206, content[:8])


def test_pages_and_scripts_are_not_shown_in_a_browser(server: ComfyUI) -> None:
    upload(server, "page.html", b"<script></script>")

    answer = server.get("/view?filename=page.html&type=input")

    assert answer.headers["Content-Type"] == "application/octet-stream"


def test_a_saved_image_holds_prompt_and_workflow(server: ComfyUI) -> None:
    prompt = image_prompt(40, "meta")
    extra: dict[str, Any] = {"extra_pnginfo": {"workflow": {"nodes": []}}}
    file = server.run(prompt, extra_data=extra)["outputs"]["2"]["images"][0]
    picture = Image.open(io.BytesIO(server.get("/view", params=file).content))

    assert json.loads(str(picture.info["prompt"])) == prompt
    assert json.loads(str(picture.info["workflow"])) == {"nodes": []}
