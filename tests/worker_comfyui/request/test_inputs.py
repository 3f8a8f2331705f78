from __future__ import annotations

import base64
import hashlib
import socket
import struct
import tempfile
import threading
import time
import tracemalloc
import zlib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from worker_comfyui.config import Settings
from worker_comfyui.errors import InputTooLarge, InvalidRequest
from worker_comfyui.job import FetchedInput, Field, Group, InputFile
from worker_comfyui.request import written_data
from worker_comfyui.request.inputs import fetch
from worker_comfyui.stop import JobCancelled, Stop

SETTINGS = Settings()
BYTES = bytes(range(256))


def file(source: str, field: Field = "data", name: str = "photo.png") -> InputFile:
    group: Group = "images" if field == "image" else "files"
    return InputFile(f"{group}[1]", group, field, name, source)


def fetched(*files: InputFile, settings: Settings = SETTINGS) -> list[tuple[FetchedInput, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        got = fetch(files, Path(folder), settings, Stop(lambda: False))
        return [(each, each.path.read_bytes()) for each in got]


def content(source: str, settings: Settings = SETTINGS) -> bytes:
    ((_, data),) = fetched(file(source), settings=settings)
    return data


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def check(data: bytes, settings: Settings = SETTINGS) -> None:
    source = base64.b64encode(data).decode()
    ((_, got),) = fetched(file(source, "image"), settings=settings)
    assert got == data


PLAIN = base64.b64encode(BYTES).decode()


@pytest.mark.parametrize(
    "source",
    [
        PLAIN,
        PLAIN.rstrip("="),
        base64.urlsafe_b64encode(BYTES).decode(),
        base64.encodebytes(BYTES).decode(),
        f"  {PLAIN[:50]} {PLAIN[50:]}\r\n",
        f"data:image/png;base64,{PLAIN}",
        f"DATA:image/png;charset=utf-8;base64,{PLAIN.replace('+', '%2B')}",
        f"image/png;base64,{PLAIN}",
        f"base64,{PLAIN}",
        f"Image/PNG;charset=utf-8;base64, {PLAIN}",
        "data:application/octet-stream," + "".join(f"%{b:02x}" for b in BYTES),
    ],
)
def test_base64_and_data_uris_are_read_in_all_their_spellings(source: str) -> None:
    assert content(source) == BYTES


@pytest.mark.parametrize(
    "source",
    [
        "photo.png",
        "not base64!",
        "QUJD=QUJD",
        "QUJDR",
        "Ünïcode",
        "data:image/png;base64",
        "image/png,QUJD",
        "base64;QUJD",
        "data:;base64,QUJD%",
        "data:;base64,\ud800",
        "data:,\ud800",
        "\ud800",
        "https://\ud800/x.png",
        "data:image/png;base64,@@@@",
        "ftp://host/file.png",
        "file:///etc/passwd",
        "http://[::1/x.png",
    ],
)
def test_anything_else_is_refused_with_its_path(source: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        content(source)
    assert caught.value.message.startswith("files[1].data: ")
    assert caught.value.details[0]["path"] == "files[1].data"


@pytest.mark.parametrize("source", ["", "   ", "====", "data:,", "data:;base64,"])
def test_empty_data_is_refused(source: str) -> None:
    with pytest.raises(InvalidRequest, match=r"files\[1\]\.data: is empty"):
        content(source)


@pytest.mark.parametrize("form", ["{}", "data:;base64,{}", "data:,{}"])
def test_more_bytes_than_allowed_are_refused(form: str) -> None:
    settings = replace(SETTINGS, max_input_mb=0.001)
    assert len(content(form.format("A" * 1000), settings)) <= 1000
    with pytest.raises(InputTooLarge, match="MAX_INPUT_MB") as caught:
        content(form.format("A" * 1400), settings)
    assert caught.value.details[0]["path"] == "files[1].data"


def test_too_many_bytes_are_seen_before_anything_is_decoded() -> None:
    with pytest.raises(InputTooLarge):
        content("A" * 2000 + "!", replace(SETTINGS, max_input_mb=0.001))


def test_a_private_url_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidRequest, match="not public") as caught:
        content("http://169.254.169.254/latest/meta-data/?token=abc")
    assert caught.value.details[0]["path"] == "files[1].data"
    assert "token" not in str(caught.value)


def test_a_url_is_downloaded() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(BYTES)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        settings = replace(SETTINGS, allow_private_input_urls=True)
        try:
            got = content(f"HTTP://127.0.0.1:{server.server_port}/x.png?a=b c", settings)
        finally:
            thread.join()
    assert got == BYTES


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_images_of_the_usual_formats_pass(image_format: str) -> None:
    check(encoded(Image.new("RGB", (40, 30), "red"), image_format))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"RIFF\0\0\0\0AVI ", "is video/x-msvideo, not an image"),
        (b"\0" * 100, "is not an image"),
        (b"<!DOCTYPE html><title>Login</title>", "is a web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is not an image"),
        (encoded(Image.effect_noise((64, 64), 50), "WEBP")[:-100], "is not an image"),
    ],
)
def test_what_is_no_sound_image_is_refused_with_its_path(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        check(data)
    assert caught.value.details[0]["path"] == "images[1].image"


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("missing", [1, 2, 12, 100])
def test_an_image_that_lacks_its_last_bytes_is_taken_with_a_warning(
    image_format: str, missing: int
) -> None:
    data = encoded(Image.effect_noise((64, 64), 50), image_format)[:-missing]
    ((got, stored),) = fetched(file(base64.b64encode(data).decode(), "image"))
    assert stored == data
    assert got.warning is not None
    assert got.warning.startswith("images[1].image (photo.png): the image is cut off")


def test_a_damaged_png_is_refused() -> None:
    data = bytearray(encoded(Image.effect_noise((64, 64), 50), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(InvalidRequest, match="damaged"):
        check(bytes(data))


def png_header(width: int, height: int) -> bytes:
    """Make a PNG of a few bytes that claims to be of any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_an_image_bomb_is_refused_from_its_header() -> None:
    with pytest.raises(InputTooLarge, match=r"60000 x 60000 pixels.*MAX_INPUT_MEGAPIXELS"):
        check(png_header(60000, 60000))


@pytest.mark.parametrize("field", ["image", "data"])
@pytest.mark.parametrize("name", ["a.png", "clip.mp4", "model.glb", "a"])
def test_an_image_bomb_is_refused_whatever_it_is_called_and_wherever_it_is_sent(
    field: Field, name: str
) -> None:
    source = base64.b64encode(png_header(60000, 60000)).decode()
    with pytest.raises(InputTooLarge, match=r"60000 x 60000 pixels.*MAX_INPUT_MEGAPIXELS"):
        fetched(file(source, field, name))


def test_an_image_among_the_files_may_be_damaged() -> None:
    data = encoded(Image.new("RGB", (64, 64), (1, 2, 3)), "PNG")[:-40]
    ((_, got),) = fetched(file(base64.b64encode(data).decode(), "data", "a.png"))
    assert got == data


def test_an_image_above_pillows_own_limit_passes_where_the_settings_allow_it() -> None:
    check(png_header(16384, 16384))


def test_a_text_bomb_in_a_png_is_refused() -> None:
    body = b"Comment\0\0" + zlib.compress(b"\0" * 50_000_000)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    whole = png_header(10, 10)
    with pytest.raises(InvalidRequest, match="is not an image"):
        check(whole[:33] + chunk + whole[33:])


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_all_frames_count_towards_the_limit(image_format: str) -> None:
    frames = [Image.new("RGB", (100, 100), (i * 20, 0, 0)) for i in range(10)]
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
    check(data, replace(SETTINGS, max_input_megapixels=0.1))
    with pytest.raises(InputTooLarge, match="frames"):
        check(data, replace(SETTINGS, max_input_megapixels=0.05))


def test_a_gif_of_endlessly_many_frames_is_refused_quickly() -> None:
    frame = b",\0\0\0\0\x01\0\x01\0\0\x02\x02\x4c\x01\0"
    head = b"GIF89a\x01\0\x01\0\x80\0\0" + bytes(6)
    check(head + frame * 9_000 + b";")
    with pytest.raises(InputTooLarge, match="10000 frames"):
        check(head + frame * 1_000_000)


def test_a_tiff_of_endlessly_many_frames_is_refused_quickly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("media.images", "request.inputs"):
        monkeypatch.setattr(f"worker_comfyui.{module}.MAX_FRAMES", 1000)
    entries = [(256, 3, 1), (257, 3, 1), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    entries += [(278, 3, 1), (279, 4, 1)]
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    step = 2 + len(packed) + 4
    data = b"II*\0" + struct.pack("<I", 8)
    data += b"".join(
        struct.pack("<H", len(entries)) + packed + struct.pack("<I", 8 + step * (i + 1))
        for i in range(20_000)
    )
    with pytest.raises(InputTooLarge, match="1000 frames"):
        check(data)


def test_what_decodes_in_many_pieces_is_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_data, "PIECE", 7)
    assert content(base64.encodebytes(BYTES).decode()) == BYTES
    assert content(PLAIN.rstrip("=")) == BYTES
    written = "".join(f"%{b:02x}" for b in BYTES)
    for before in ("", "a", "ab", "abc"):  # whatever the place at which it is cut
        assert content(f"data:,{before}{written}") == before.encode() + BYTES


def test_the_largest_of_texts_is_decoded_at_once() -> None:
    started = time.monotonic()
    assert len(content("A" * 80_000_000)) == 60_000_000
    assert time.monotonic() - started < 4


def test_the_files_of_a_job_have_a_bound_together() -> None:
    settings = replace(SETTINGS, max_input_mb=0.001, max_inputs_mb=0.0025)
    sent = [InputFile(f"files[{i}]", "files", "data", f"{i}", "A" * 1000) for i in range(4)]
    assert len(fetched(*sent[:3], settings=settings)) == 3
    with pytest.raises(InputTooLarge, match=r"more than 0\.0025 MB together \(MAX_INPUTS_MB\)"):
        fetched(*sent, settings=settings)


def test_a_file_that_was_sent_twice_comes_once() -> None:
    other = InputFile("files[0]", "files", "data", "photo.png", f"data:;base64,{PLAIN}")
    ((got, data),) = fetched(file(PLAIN), other)
    assert (got.name, data) == ("photo.png", BYTES)
    assert got.sha256 == hashlib.sha256(BYTES).hexdigest()


def test_one_name_for_two_contents_is_refused_with_both_places() -> None:
    other = InputFile("files[3]", "files", "data", "photo.png", "QUJD")
    with pytest.raises(InvalidRequest) as caught:
        fetched(file(PLAIN), other)
    assert caught.value.details == [
        {
            "path": "files[3].name",
            "message": "is the same as files[1].name, with other content",
        }
    ]


MP4 = b"\0\0\0 ftypisom" + bytes(100)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("clip.mp4", MP4),
        ("clip", MP4),
        ("voice.wav", b"RIFF\0\0\0\0WAVE" + bytes(100)),
        ("voice.mp3", b"anything"),
        ("scene.glb", b"glTF" + bytes(100)),
        ("sky.exr", b"v/1\1" + bytes(100)),
        ("mask.psd", b"8BPS" + bytes(100)),
    ],
)
def test_what_is_no_image_by_its_name_or_content_is_stored_as_it_is(name: str, data: bytes) -> None:
    source = base64.b64encode(data).decode()
    ((got, stored),) = fetched(InputFile("images[0]", "images", "image", name, source))
    assert (got.name, stored, got.warning) == (name, data, None)


def test_nothing_goes_on_after_a_cancelled_fetch(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        cancelled = threading.Event()
        threading.Timer(0.3, cancelled.set).start()
        sent = [InputFile(f"files[{i}]", "files", "data", f"{i}", url) for i in range(20)]
        settings = replace(SETTINGS, allow_private_input_urls=True)
        with pytest.raises(JobCancelled):
            fetch(sent, tmp_path, settings, Stop(cancelled.is_set))
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("inputs", "resolve"))]


def test_many_large_files_are_not_held_in_memory(tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(30_000_000))
            self.end_headers()
            for _ in range(30):
                self.wfile.write(bytes(1_000_000))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/x"
        sent = [InputFile(f"files[{i}]", "files", "data", f"{i}", url) for i in range(10)]
        settings = replace(SETTINGS, allow_private_input_urls=True)
        tracemalloc.start()
        try:
            got = fetch(sent, tmp_path, settings, Stop(lambda: False))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            server.shutdown()
            thread.join()
    assert [each.path.stat().st_size for each in got] == [30_000_000] * 10
    assert peak < 20_000_000
