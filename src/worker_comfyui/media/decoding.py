"""Opens images in processes that can be ended: a hostile file costs its own job, and that alone.

A process is started when it is needed, and kept for the next image; one that is late is killed.
"""

from __future__ import annotations

import atexit
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from worker_comfyui.job import OutputOptions
from worker_comfyui.media.image_info import (
    ConversionError,
    Converted,
    DecodingRefused,
    ImageInfo,
    State,
)
from worker_comfyui.stop import TICK_S, Stop

CHECK_S = 20.0
"""For headers, and for the decoding of one image that is cut off."""
CONVERT_S = 300.0
MAX_IDLE = 2
"""Processes that are kept for the next image."""

_SOURCE = Path(__file__).resolve().parents[2]
# With -I there is no PYTHONPATH: the path comes as an argument.
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from worker_comfyui.media.decoder import main; main()"
)
_UNLIMITED = 1 << 40


def prepare() -> None:
    """Start a process for the first image, which then need not wait for it."""
    with _process():
        pass


def describe(path: Path, stop: Stop, max_pixels: int = _UNLIMITED) -> ImageInfo | None:
    """Read an image's headers, without decoding pixels; None: not a readable image.

    Args:
        path: The file.
        stop: Ends it.
        max_pixels: With more, all frames together, nothing further is looked at.

    Raises:
        DecodingRefused: that takes too much memory or time.
        JobCancelled, TimedOut: as `stop` says.
    """
    request = {"do": "describe", "path": str(path), "max_pixels": max_pixels}
    return _info(_ask(request, stop, CHECK_S))


def check(path: Path, max_pixels: int, stop: Stop) -> tuple[ImageInfo | None, State]:
    """Read an image's headers, and see whether it is whole.

    Args:
        path: The file.
        max_pixels: With more, all frames together, nothing further is looked at.
        stop: Ends it.

    Raises:
        DecodingRefused: that takes too much memory or time.
        JobCancelled, TimedOut: as `stop` says.
    """
    request = {"do": "check", "path": str(path), "max_pixels": max_pixels}
    answer = _ask(request, stop, CHECK_S)
    state: State = answer.get("state", "sound")
    return _info(answer), state


def convert(path: Path, options: OutputOptions, stop: Stop) -> Converted | None:
    """Convert a still image as the caller asked; None: it is left as it is.

    See `media.images.convert`.

    Raises:
        ConversionError: the file is damaged, the format cannot hold it, or it takes too much.
        OSError: the new file cannot be written.
        JobCancelled, TimedOut: as `stop` says.
    """
    wanted = {name: getattr(options, name) for name in ("format", "quality", "metadata")}
    request = {"do": "convert", "path": str(path), "options": wanted}
    try:
        answer = _ask(request, stop, CONVERT_S)
    except DecodingRefused as error:
        raise ConversionError(f"it {error}") from None
    if "failed" in answer:
        raise ConversionError(answer["failed"])
    made = answer["converted"]
    return made and Converted(
        Path(made["path"]), made["extension"], made["note"], _info({"info": made["info"]})
    )


def _info(answer: dict[str, Any]) -> ImageInfo | None:
    return None if answer["info"] is None else ImageInfo(**answer["info"])


def _ask(request: dict[str, Any], stop: Stop, seconds: float) -> dict[str, Any]:
    late = DecodingRefused(f"takes more than {seconds:g} s to read")
    with _process() as process:
        answer = process.ask(
            {"max_pixels": _UNLIMITED, **request}, stop.within(seconds, lambda: late)
        )
    if "refused" in answer:
        raise DecodingRefused(answer["refused"])
    if "errno" in answer:
        raise OSError(answer["errno"], answer["error"])
    return answer


class _Process:
    """A `media.decoder` and the line to it."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        self._line.settimeout(TICK_S)
        with theirs:
            self._child = subprocess.Popen(  # noqa: S603  # nosec B603  # this project's own program
                [sys.executable, "-I", "-c", _START, str(_SOURCE)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                env={},  # the worker's keys are not for it
                start_new_session=True,  # Ctrl-C is for the worker, which then ends it
            )

    @property
    def lives(self) -> bool:
        return self._child.poll() is None

    def ask(self, request: dict[str, Any], stop: Stop) -> dict[str, Any]:
        answer = bytearray()
        try:
            # At once, within a tick: a request is smaller than the socket's buffer.
            self._line.sendall(json.dumps(request).encode() + b"\n")
            while not answer.endswith(b"\n"):
                stop.check()
                with suppress(TimeoutError):
                    piece = self._line.recv(1 << 16)
                    if not piece:
                        raise DecodingRefused(_DIED)
                    answer += piece
        except OSError:
            raise DecodingRefused(_DIED) from None
        answered: dict[str, Any] = json.loads(answer)
        return answered

    def end(self) -> None:
        self._line.close()
        self._child.kill()
        self._child.wait()


_DIED = "makes its reader fail"
_lock = threading.Lock()
_idle: list[_Process] = []


@contextmanager
def _process() -> Iterator[_Process]:
    """Lend a process; one in which something went wrong is not used again."""
    process = _kept() or _Process()
    try:
        yield process
    except BaseException:
        process.end()
        raise
    with _lock:
        if len(_idle) < MAX_IDLE:
            _idle.append(process)
            return
    process.end()


def _kept() -> _Process | None:
    """Take a process that waits; one that somebody else has killed meanwhile is no use."""
    while True:
        with _lock:
            if not _idle:
                return None
            process = _idle.pop()
        if process.lives:
            return process
        process.end()


def end_all() -> None:
    """End the processes that wait for the next image."""
    with _lock:
        ended = list(_idle)
        _idle.clear()
    for process in ended:
        process.end()


atexit.register(end_all)
