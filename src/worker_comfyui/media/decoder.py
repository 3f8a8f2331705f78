"""A process that opens images, since nothing can stop Pillow's readers within a process.

It reads one request a line from standard input, and answers with one line: JSON both ways. Its
memory is bounded for each request by what the image may need; time is bounded by who asks, who
ends the process.
"""

from __future__ import annotations

import json
import os
import resource
import select
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worker_comfyui.config import MEGA
from worker_comfyui.job import OutputOptions
from worker_comfyui.media import images
from worker_comfyui.media.image_info import ConversionError, ImageInfo

OPENING_BYTES = 256 * MEGA
"""Enough for every reader that is honest about its image, at opening it."""
MAX_CONVERTED_PIXELS = 300 * MEGA
"""Of an image that is converted: what is larger is delivered as it is."""
CPU_S = 600
"""Processor time of one request at most, should nobody be left to end the process."""
LOOK_S = 1.0


def main() -> None:
    """Answer requests until standard input ends, or whoever started the process is gone."""
    parent = os.getppid()
    answers = sys.stdout
    sys.stdout = sys.stderr  # nothing but answers goes there
    while os.getppid() == parent:
        if not select.select([sys.stdin], [], [], LOOK_S)[0]:
            continue
        line = sys.stdin.readline()
        if not line:
            return
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    path = Path(request["path"])
    try:
        canvas = _webp_canvas(path)
        if canvas and canvas.pixels > request["max_pixels"]:
            return _described(canvas)  # its reader would allocate that before it can be asked
        # A WebP's two canvases have four bytes a pixel each.
        _bound(OPENING_BYTES + 3 * path.stat().st_size + 8 * (canvas.pixels if canvas else 0))
        match request["do"]:
            case "describe":
                return _described(images.describe(path, request["max_pixels"]))
            case "check":
                return _checked(path, request["max_pixels"])
        return _converted(path, OutputOptions(**request["options"]))
    except MemoryError:
        return {"refused": "needs more memory than an image of its size may"}
    except OSError as error:
        return {"errno": error.errno, "error": str(error)}


def _described(info: ImageInfo | None) -> dict[str, Any]:
    return {"info": None if info is None else asdict(info)}


def _checked(path: Path, max_pixels: int) -> dict[str, Any]:
    info = images.describe(path, max_pixels)
    answer = _described(info)
    if info and info.pixels <= max_pixels:
        _bound(OPENING_BYTES + 3 * path.stat().st_size + 16 * info.pixels)
        answer["state"] = images.state(path, info.media_type)
    return answer


def _converted(path: Path, options: OutputOptions) -> dict[str, Any]:
    info = images.describe(path)
    if info is None:
        return {"converted": None}
    if info.width * info.height > MAX_CONVERTED_PIXELS:
        return {"failed": f"it has more than {MAX_CONVERTED_PIXELS // MEGA} megapixels"}
    # Several copies of the pixels, four bytes each: as read, turned, flattened, and encoded.
    _bound(2 * OPENING_BYTES + 8 * path.stat().st_size + 24 * info.width * info.height)
    try:
        converted = images.convert(path, options)
    except ConversionError as error:
        return {"failed": str(error)}
    if converted is None:
        return {"converted": None}
    return {"converted": {**asdict(converted), "path": str(converted.path)}}


def _webp_canvas(path: Path) -> ImageInfo | None:
    """Read the size of a WebP's canvas from its header; None: no WebP, or not there.

    Pillow allocates two canvases at opening; of the other formats, only ICO decodes then, and has
    to do with the memory that every format has.
    Source: https://developers.google.com/speed/webp/docs/riff_container
    """
    with path.open("rb") as file:
        head = file.read(30)
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    match head[12:16]:
        case b"VP8X":
            width, height = _little(head[24:27]) + 1, _little(head[27:30]) + 1
        case b"VP8L":
            bits = _little(head[21:25])
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF
        case _:
            return None
    return ImageInfo("image/webp", width, height, 1, width * height)


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _bound(more_bytes: int) -> None:
    """Let this process have so much memory more than now, and a bounded time of the processor."""
    pages = Path("/proc/self/statm")
    if pages.exists():  # elsewhere the limit is not kept
        size = int(pages.read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + more_bytes, hard))
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    seconds = int(used.ru_utime + used.ru_stime) + CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
