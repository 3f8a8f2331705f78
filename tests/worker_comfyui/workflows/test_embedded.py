"""Workflows are read out of the files that ComfyUI saves, and nothing else of them."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape as xml_escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.worker_comfyui.workflows.pairs import RESOURCES
from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.embedded import reading as embedded

MEDIA = sorted((RESOURCES / "embedded").iterdir())
PROMPT: dict[str, Any] = {"1": {"class_type": "SaveImage", "inputs": {"text": "Grüße"}}}
GRAPH: dict[str, Any] = {"nodes": [], "links": []}
TEXTS = {"prompt": json.dumps(PROMPT), "workflow": json.dumps(GRAPH)}


def png(**texts: str) -> bytes:
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    return saved("PNG", pnginfo=info)


def saved(image_format: str, **options: Any) -> bytes:
    data = BytesIO()
    Image.new("RGB", (4, 4)).save(data, image_format, **options)
    return data.getvalue()


def exif() -> Image.Exif:
    made = Image.Exif()
    made[0x0110] = f"prompt:{TEXTS['prompt']}"
    made[0x010F] = f"workflow:{TEXTS['workflow']}"
    return made


def animated_png() -> bytes:
    info = PngInfo()
    for name, text in TEXTS.items():
        info.add(b"comf", name.encode() + b"\0" + text.encode("latin-1"), after_idat=True)
    other = Image.new("RGB", (4, 4), "red")
    return saved("PNG", pnginfo=info, save_all=True, append_images=[other], duration=100)


def compressed_png() -> bytes:
    info = PngInfo()
    for name, text in TEXTS.items():
        info.add_text(name, text, zip=True)
    return saved("PNG", pnginfo=info)


def international_png() -> bytes:
    info = PngInfo()
    for name, text in TEXTS.items():
        info.add_itxt(name, text, zip=True)
    return saved("PNG", pnginfo=info)


def exr() -> bytes:
    attributes = b"".join(
        name.encode() + b"\0string\0" + struct.pack("<i", len(text)) + text.encode()
        for name, text in TEXTS.items()
    )
    return b"\x76\x2f\x31\x01\x02\0\0\0" + attributes + b"\0" + bytes(64)


def svg() -> bytes:
    content = json.dumps({"prompt": PROMPT, "workflow": GRAPH})
    return f'<?xml version="1.0"?>\n<svg><metadata><![CDATA[{content}]]></metadata></svg>'.encode()


def glb() -> bytes:
    content = json.dumps({"asset": {"version": "2.0", "extras": TEXTS}}).encode()
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(content), len(content), b"JSON") + content


@pytest.mark.parametrize("file", MEDIA, ids=lambda file: file.name)
def test_media_files_have_both(file: Path) -> None:
    found = embedded.read(file.read_bytes())
    assert found.prompt is not None
    assert found.prompt["1"]["_meta"]["title"] == "Grüße"
    assert found.workflow is not None
    assert len(found.workflow["nodes"]) == 2


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: png(**TEXTS), "PNG"),
        (animated_png, "PNG"),
        (compressed_png, "PNG"),
        (international_png, "PNG"),
        (lambda: saved("WEBP", exif=exif()), "WebP"),
        (
            lambda: saved(
                "WEBP", exif=exif(), save_all=True, append_images=[Image.new("RGB", (4, 4), "red")]
            ),
            "WebP",
        ),
        (lambda: saved("JPEG", exif=exif()), "JPEG"),
        (exr, "EXR"),
        (svg, "SVG"),
        (glb, "GLB"),
    ],
)
def test_pictures_and_models_have_both(make: Callable[[], bytes], kind: str) -> None:
    found = embedded.read(make())
    assert found == embedded.Embedded(kind, PROMPT, GRAPH)


@pytest.mark.parametrize("escaped", [True, False])
def test_a_picture_of_a_workflow_that_a_pack_drew_has_the_workflow(escaped: bool) -> None:
    graph = {"nodes": [], "links": [], "extra": {"text": "<a> & 'b' \"c\""}}
    text = json.dumps(graph)
    if escaped:
        text = xml_escape(text, {'"': "&quot;", "'": "&apos;"})
    drawing = f"<svg><desc>a drawing</desc><g/><desc>{text}</desc></svg>"
    assert embedded.read(drawing.encode()) == embedded.Embedded("SVG", None, graph)


@pytest.mark.parametrize("text", ["", "a drawing", "[]", "{"])
def test_a_drawing_that_is_no_workflow_has_none(text: str) -> None:
    for drawing in (f"<svg><desc>{text}</desc></svg>", f"<svg>{text}</desc></svg>"):
        with pytest.raises(InvalidRequest, match="SVG file without a workflow"):
            embedded.read(drawing.encode())


def test_not_a_number_in_an_old_prompt_is_null() -> None:
    text = '{"1": {"class_type": "A", "inputs": {}, "is_changed": [NaN]}}'
    found = embedded.read(png(prompt=text))
    assert found.prompt == {"1": {"class_type": "A", "inputs": {}, "is_changed": [None]}}


def test_a_file_without_a_workflow_says_why_it_may_have_none() -> None:
    with pytest.raises(InvalidRequest, match=r"PNG file without a workflow.*took it out"):
        embedded.read(png(comment="hello"))


def test_any_other_file_names_those_that_are_read() -> None:
    with pytest.raises(InvalidRequest, match="embeds no workflow; it does in PNG, WebP"):
        embedded.read(b"%PDF-1.7")


def test_a_file_that_is_cut_off_after_its_workflow_is_read() -> None:
    whole = png(**TEXTS)
    assert embedded.read(whole[: whole.index(b"IDAT")]).prompt == PROMPT


def test_a_text_that_unpacks_without_end_is_refused() -> None:
    packed = b"prompt\0\0" + zlib.compress(b" " * 40_000_000, 9)
    chunk = struct.pack(">I", len(packed)) + b"zTXt" + packed + bytes(4)
    with pytest.raises(InvalidRequest, match="more text than a workflow needs"):
        embedded.read(b"\x89PNG\r\n\x1a\n" + chunk)


def webp(exif_data: bytes) -> bytes:
    body = b"WEBPEXIF" + struct.pack("<I", len(exif_data)) + exif_data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_texts_of_exif_that_all_stand_in_one_place_are_read_once() -> None:
    entries, length = 60_000, 30_000_000
    entry = struct.pack("<HHII", 0x010F, 2, length, 8)
    directory = struct.pack("<H", entries) + entry * entries
    data = webp(b"II*\0" + struct.pack("<I", 8) + directory + bytes(length))
    started = time.process_time()
    with pytest.raises(InvalidRequest, match="without a workflow"):
        embedded.read(data)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("image_format", ["WEBP", "JPEG", "PNG"])
def test_no_reader_of_pictures_comes_into_the_worker_for_it(
    tmp_path: Path, image_format: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(png(**TEXTS) if image_format == "PNG" else saved(image_format, exif=exif()))
    code = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from worker_comfyui.workflows.embedded.reading import read\n"
        "assert read(open(sys.argv[1], 'rb').read()).prompt\n"
        "sys.exit('PIL' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, file], check=False).returncode == 0


SAMPLES = [file.read_bytes() for file in MEDIA] + [
    png(**TEXTS),
    compressed_png(),
    saved("WEBP", exif=exif()),
    saved("JPEG", exif=exif()),
    exr(),
    glb(),
]


@settings(max_examples=300, deadline=None)
@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_a_damaged_file_is_read_or_refused(sample: bytes, data: st.DataObject) -> None:
    changed = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(4, len(changed) - 1))
        changed[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    end = data.draw(st.sampled_from([len(changed), len(changed) // 2, 12, 5]))
    assert_read_or_refused(bytes(changed[:end]))


def assert_read_or_refused(data: bytes) -> None:
    try:
        found = embedded.read(data)
    except InvalidRequest as error:
        details = error.details
    else:
        details = [{"path": "workflow"}]
        assert found.prompt or found.workflow
    assert details[0]["path"] == "workflow"
