from __future__ import annotations

import pytest

from tests.support.comfyui import ComfyUI


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 404),
        ("filename=/etc/passwd", 400),
        ("filename=x.png&type=elsewhere", 400),
        ("filename=passwd&subfolder=/etc", 403),
    ],
)
def test_view_refuses_with_an_empty_body(server: ComfyUI, query: str, status: int) -> None:
    response = server.get(f"/view?{query}")

    assert (response.status_code, response.content) == (status, b"")


def test_view_gives_the_file_that_was_uploaded_last_or_a_part_of_it(server: ComfyUI) -> None:
    for content in (b"before", b"a picture"):
        file = {"image": ("part.png", content)}
        assert server.post("/upload/image", files=file, data={"overwrite": "1"}).ok
    whole = server.get("/view?filename=part.png&type=input")
    annotated = server.get("/view", params={"filename": "part.png [input]"})
    part = server.get("/view?filename=part.png&type=input", headers={"Range": "bytes=0-4"})

    assert whole.content == annotated.content == b"a picture"
    assert whole.headers["Content-Type"] == "image/png"
    assert whole.headers["Content-Disposition"] == 'filename="part.png"'
    assert (part.status_code, part.content) == (206, b"a pic")


def test_pages_and_scripts_are_not_shown_in_a_browser(server: ComfyUI) -> None:
    server.post("/upload/image", files={"image": ("page.html", b"<script></script>")})
    answer = server.get("/view?filename=page.html&type=input")

    assert answer.headers["Content-Type"] == "application/octet-stream"
