from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from worker_comfyui.errors import TimedOut
from worker_comfyui.job import OutputOptions
from worker_comfyui.media import decoding
from worker_comfyui.media.image_info import (
    READABLE,
    ConversionError,
    DecodingRefused,
    ImageInfo,
)
from worker_comfyui.stop import JobCancelled, Stop

NEVER = Stop(lambda: False)
MANY = 300_000_000


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    decoding.end_all()
    yield
    decoding.end_all()
    assert psutil.Process().children() == []


def written(folder: Path, data: bytes) -> Path:
    path = folder / "image"
    path.write_bytes(data)
    return path


def encoded(image: Image.Image, image_format: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format)
    return stream.getvalue()


def picture(folder: Path, image_format: str = "PNG") -> Path:
    return written(folder, encoded(Image.effect_noise((64, 48), 50).convert("RGB"), image_format))


def the_process() -> psutil.Process:
    (child,) = psutil.Process().children()
    return child


def test_an_image_is_described_by_a_process_of_its_own(tmp_path: Path) -> None:
    info = decoding.describe(picture(tmp_path), NEVER)
    assert info == ImageInfo("image/png", 64, 48, 1, 64 * 48)
    assert the_process().is_running()


def test_what_is_no_image_is_none(tmp_path: Path) -> None:
    assert decoding.describe(written(tmp_path, b"no image"), NEVER) is None
    assert decoding.check(written(tmp_path, b""), MANY, NEVER) == (None, "sound")


def test_the_process_is_used_again_and_one_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = picture(tmp_path)
    decoding.prepare()
    first = the_process()
    assert decoding.describe(path, NEVER)
    assert the_process() == first
    first.kill()
    first.wait(5)
    assert decoding.describe(path, NEVER)
    assert the_process() != first


def test_images_are_opened_side_by_side_and_two_processes_are_kept(tmp_path: Path) -> None:
    path = picture(tmp_path)
    threads = [threading.Thread(target=decoding.describe, args=(path, NEVER)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(psutil.Process().children()) <= decoding.MAX_IDLE


def test_an_image_is_converted(tmp_path: Path) -> None:
    converted = decoding.convert(picture(tmp_path), OutputOptions(format="jpeg"), NEVER)
    assert converted is not None
    assert (converted.extension, converted.note) == (".jpg", None)
    assert converted.info == ImageInfo("image/jpeg", 64, 48, 1, 64 * 48)
    assert converted.path.read_bytes().startswith(b"\xff\xd8")


def test_what_is_not_to_be_converted_is_left_alone(tmp_path: Path) -> None:
    assert decoding.convert(picture(tmp_path), OutputOptions(format="png"), NEVER) is None
    assert decoding.convert(written(tmp_path, b"x"), OutputOptions(format="png"), NEVER) is None


def test_a_damaged_image_is_a_failed_conversion(tmp_path: Path) -> None:
    path = written(tmp_path, picture(tmp_path).read_bytes()[:-500])
    with pytest.raises(ConversionError, match=r"truncated|broken"):
        decoding.convert(path, OutputOptions(format="jpeg"), NEVER)


def test_an_image_that_claims_to_be_huge_is_not_converted(tmp_path: Path) -> None:
    path = written(tmp_path, png(60_000, 60_000, zlib.compress(b"")))
    started = time.monotonic()
    with pytest.raises(ConversionError, match="it has more than 300 megapixels"):
        decoding.convert(path, OutputOptions(format="jpeg"), NEVER)
    assert time.monotonic() - started < 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    path = picture(tmp_path)
    (tmp_path / "image.jpg").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        decoding.convert(path, OutputOptions(format="jpeg"), NEVER)
    assert caught.value.errno == 28


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_a_cut_off_image_is_told_from_a_sound_one(tmp_path: Path, image_format: str) -> None:
    path = picture(tmp_path, image_format)
    assert decoding.check(path, MANY, NEVER)[1] == "sound"
    path.write_bytes(path.read_bytes()[:-2])
    assert decoding.check(path, MANY, NEVER)[1] == "cut"


def test_the_end_of_a_camera_s_small_picture_is_not_that_of_the_image(tmp_path: Path) -> None:
    path = picture(tmp_path, "JPEG")
    whole = path.read_bytes()
    exif = b"Exif\0\0" + encoded(Image.new("RGB", (8, 8)), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    path.write_bytes(whole[:2] + segment + whole[2:])
    assert decoding.check(path, MANY, NEVER)[1] == "sound"
    path.write_bytes(path.read_bytes()[:-500])
    assert decoding.check(path, MANY, NEVER)[1] == "cut"


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def icon_bomb() -> bytes:
    """An icon of some 100 kB whose picture has 400 million pixels: Pillow decodes it at opening."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 4 * 20_000)) for _ in range(1_000))
    inner = png(20_000, 20_000, rows + packer.flush())
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inner), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + inner


def overlapping_tiff(tags: int = 20_000) -> bytes:
    """A TIFF of 0.5 MB with as many frames as tags, each of which has nearly all tags.

    It is a row of cells of 12 bytes. A directory begins in each: the count of its tags, the tags,
    which are the following cells, and the place of the next directory in the cell after them.
    """
    needed = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 1}
    cells = [struct.pack("<HHHIH", tags, 40_000, 3, 1, 0)] * (tags - len(needed))
    cells += [struct.pack("<HHHIH", tags, tag, 3, 1, value) for tag, value in needed.items()]
    cells += [struct.pack("<HIIH", tags, 8 + 12 * (i + 1), 1, 0) for i in range(tags)]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(cells)


def peak_memory(path: Path, seconds: float = 20) -> tuple[float, int]:
    """Check an image; return the seconds that it took, and the most memory of the process."""
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            for child in psutil.Process().children():
                # A child that is just being forked still has the tests' own memory.
                with suppress(psutil.Error):
                    if any("decoder" in word for word in child.cmdline()):
                        peak = max(peak, child.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    started = time.monotonic()
    try:
        with suppress(DecodingRefused):
            decoding.check(path, MANY, NEVER)
    finally:
        took = time.monotonic() - started
        done.set()
        watching.join()
    assert took < seconds
    return took, peak


def test_an_icon_that_is_a_bomb_costs_neither_memory_nor_time(tmp_path: Path) -> None:
    bomb = icon_bomb()
    assert len(bomb) < 200_000
    _, peak = peak_memory(written(tmp_path, bomb), 10)
    assert peak < 400_000_000
    assert decoding.describe(picture(tmp_path), NEVER)  # the next image is none the worse


def test_an_icon_is_still_an_image(tmp_path: Path) -> None:
    info, state = decoding.check(picture(tmp_path, "ICO"), MANY, NEVER)
    assert info is not None
    assert (info.media_type, state) == ("image/x-icon", "sound")


def test_a_webp_of_the_largest_size_is_described_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "large.webp"
    Image.new("RGB", (16383, 2000)).save(path, method=0, quality=1)
    info, state = decoding.check(path, MANY, NEVER)
    assert info is not None
    assert (info.width, info.height, state) == (16383, 2000, "sound")
    assert decoding.check(path, 1_000_000, NEVER) == (info, "sound")


def test_a_reader_that_takes_long_is_killed_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "CHECK_S", 0.5)
    decoding.prepare()
    process = the_process()
    process.suspend()
    with pytest.raises(DecodingRefused, match=r"takes more than 0\.5 s to read"):
        decoding.check(picture(tmp_path), MANY, NEVER)
    assert not process.is_running()


def test_a_tiff_of_overlapping_directories_ends_with_the_job(tmp_path: Path) -> None:
    stop = Stop(lambda: False)
    stop.limit(1.5)
    started = time.monotonic()
    with pytest.raises(TimedOut):
        decoding.check(written(tmp_path, overlapping_tiff()), MANY, stop)
    assert time.monotonic() - started < 10


def test_a_cancelled_job_ends_the_reader(tmp_path: Path) -> None:
    decoding.prepare()
    process = the_process()
    process.suspend()
    cancelled = threading.Event()
    threading.Timer(0.2, cancelled.set).start()
    started = time.monotonic()
    with pytest.raises(JobCancelled):
        decoding.convert(picture(tmp_path), OutputOptions(format="jpeg"), Stop(cancelled.is_set))
    assert time.monotonic() - started < 8
    assert not process.is_running()


def test_a_reader_that_dies_is_no_image_s_fault_of_the_next(tmp_path: Path) -> None:
    decoding.prepare()
    process = the_process()
    process.suspend()
    threading.Timer(0.2, process.kill).start()
    path = picture(tmp_path)
    with pytest.raises(DecodingRefused, match="makes its reader fail"):
        decoding.describe(path, NEVER)
    assert decoding.describe(path, NEVER)


def test_the_process_has_nothing_of_the_worker_s_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BUCKET_SECRET_ACCESS_KEY", "a-secret-key")
    decoding.prepare()
    assert "a-secret-key" not in str(the_process().environ())


def test_the_process_ends_with_the_worker_however_that_ends() -> None:
    code = (
        "import sys, time; sys.path.insert(0, 'src')\n"
        "from worker_comfyui.media import decoding\n"
        "decoding.prepare(); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        (child,) = psutil.Process(worker.pid).children()
        os.kill(worker.pid, signal.SIGKILL)
    child.wait(10)


def test_the_worker_itself_imports_no_reader_of_images() -> None:
    code = (
        "import sys; sys.path.insert(0, 'src')\n"
        "import worker_comfyui.worker\n"
        "sys.exit('PIL' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SEEDS = [
    encoded(Image.effect_noise((24, 16), 50).convert("RGB"), image_format)
    for image_format in READABLE
]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=12),
    st.integers(0, 2000),
)
def test_no_damaged_image_of_any_format_is_more_than_refused(
    tmp_path: Path, seed: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    path = written(tmp_path, bytes(data[: len(data) - cut % len(data)]))
    with suppress(DecodingRefused, ConversionError):
        decoding.check(path, MANY, NEVER)
        decoding.convert(path, OutputOptions(format="webp"), NEVER)
