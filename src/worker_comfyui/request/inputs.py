"""The content of a request's files: base64, data URI or URL → files on the disk, within limits."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from worker_comfyui.config import MEGA, Settings
from worker_comfyui.errors import InputTooLarge, InvalidRequest, JobError, disk_errors
from worker_comfyui.job import FetchedInput, InputFile
from worker_comfyui.media import decoding
from worker_comfyui.media.image_info import MAX_FRAMES, READABLE, DecodingRefused, State
from worker_comfyui.media.media_types import HEAD_BYTES, by_content, by_name, kind_of
from worker_comfyui.request import written_data
from worker_comfyui.request.download import Limits, download
from worker_comfyui.request.sink import Budget, Sink
from worker_comfyui.stop import JobCancelled, Stop
from worker_comfyui.wording import cut

READERS = 4
LOAD_IMAGE_TYPES = frozenset(
    {
        "image/png",
        "image/apng",
        "image/jpeg",
        "image/webp",
        "image/gif",
        "image/bmp",
        "image/tiff",
        "image/avif",
        "image/jp2",
        "image/vnd.microsoft.icon",
    }
)
"""What is checked as an image. Others (EXR, HDR, PSD) have loaders of their own."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")


def prepare() -> None:
    """Get ready for the first image while nobody waits for it."""
    decoding.prepare()


def fetch(
    files: Sequence[InputFile], folder: Path, settings: Settings, stop: Stop
) -> list[FetchedInput]:
    """Write the files of a request into a folder, several at a time; none is held in memory.

    A file that was sent twice, under one name and with the same bytes, comes once.

    Args:
        files: What to fetch.
        folder: Of the job's own; it is made where there is a file for it.
        settings: The limits.
        stop: Ends it within a moment, also while a server is silent; nothing goes on after it.

    Raises:
        InvalidRequest: the data has none of the three forms, is empty, or no image where one is
            needed; or one name has two contents.
        InputTooLarge: more than MAX_INPUT_MB, MAX_INPUTS_MB or MAX_INPUT_MEGAPIXELS.
        InputUnavailable: a URL could not be downloaded within INPUT_URL_TIMEOUT_S.
        DiskFull: there is no space for them.
        JobCancelled, TimedOut: as `stop` says.
    """
    if not files:
        return []
    with disk_errors():
        folder.mkdir(exist_ok=True)
    failed = threading.Event()
    part = stop.unless(failed.is_set)
    budget = Budget(int(settings.max_inputs_mb * MEGA))
    with ThreadPoolExecutor(min(READERS, len(files)), thread_name_prefix="inputs") as pool:
        reading = [
            pool.submit(_fetch, file, folder / str(index), settings, budget, part)
            for index, file in enumerate(files)
        ]
        ended, others = wait(reading, return_when=FIRST_EXCEPTION)
        if others:  # one cannot be read: nobody needs the rest
            failed.set()
            pool.shutdown(cancel_futures=True)
    stop.check()
    _raise_first(future for future in reading if future in ended)
    return _once(files, [future.result() for future in reading])


def fetch_one(source: str, place: str, folder: Path, settings: Settings, stop: Stop) -> Path:
    """Write what was sent as base64, data URI or URL into a file of a folder; return its path.

    Raises:
        JobError, JobCancelled: as `fetch`.
    """
    path = folder / "fetched"
    try:
        limit = int(settings.max_input_mb * MEGA)
        with Sink(path, limit, Budget(limit)) as sink:
            _write(source.strip(), sink, settings, stop)
    except JobError as error:
        raise type(error).at(place, error.message) from error
    return path


def _raise_first(ended: Iterable[Future[FetchedInput]]) -> None:
    """Raise the error that is the reason for the others."""
    errors = [error for future in ended if (error := future.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, JobCancelled)):
        raise error


def _once(files: Sequence[InputFile], fetched: Sequence[FetchedInput]) -> list[FetchedInput]:
    kept: dict[str, tuple[InputFile, FetchedInput]] = {}
    for sent, got in zip(files, fetched, strict=True):
        first, other = kept.setdefault(got.name, (sent, got))
        if other.sha256 != got.sha256:
            raise InvalidRequest.at(
                f"{sent.place}.name", f"is the same as {first.place}.name, with other content"
            )
    return [got for _, got in kept.values()]


def _fetch(
    file: InputFile, path: Path, settings: Settings, budget: Budget, stop: Stop
) -> FetchedInput:
    try:
        with Sink(path, int(settings.max_input_mb * MEGA), budget) as sink:
            _write(file.source.strip(), sink, settings, stop)
            if not sink.size:
                raise InvalidRequest("is empty")
        stop.check()
        must_be_image = file.group == "images" and _is_for_load_image(file.name, path)
        warning = _check_image(path, settings, stop, must=must_be_image)
    except JobError as error:
        stop.check()  # where the job is to stop, that is the reason
        raise type(error).at(f"{file.place}.{file.field}", error.message) from error
    if warning:
        warning = f"{file.place}.{file.field} ({cut(file.name)}): {warning}"
    return FetchedInput(file.name, path, file.group, sink.sha256, warning)


def _write(source: str, sink: Sink, settings: Settings, stop: Stop) -> None:
    scheme = _SCHEME.match(source)
    if scheme is None:
        written_data.write(source, sink, stop)
    elif scheme[1].lower() in {"http", "https"}:
        limits = Limits(settings.input_url_timeout_s, settings.allow_private_input_urls)
        download(source, sink, limits, stop)
    else:
        raise InvalidRequest(f"{written_data.FORMS}; {scheme[1]} is not allowed")


def _is_for_load_image(name: str, path: Path) -> bool:
    """Tell an image from what other loaders take: `images` is the existing worker's only upload."""
    media_type = by_name(name)
    if media_type is not None:
        return media_type in LOAD_IMAGE_TYPES
    with path.open("rb") as file:
        media_type = by_content(file.read(HEAD_BYTES))
    return media_type is None or media_type in LOAD_IMAGE_TYPES


def _check_image(path: Path, settings: Settings, stop: Stop, *, must: bool) -> str | None:
    """Check that ComfyUI's LoadImage can be given this file; return what is odd about it.

    Args:
        path: The file.
        settings: The limits. They are for any image: LoadImage looks at what a file is, not at
            its name or at the field in which it was sent.
        stop: Ends it.
        must: Whether it has to be an image, and a sound one.
    """
    limit = int(settings.max_input_megapixels * MEGA)
    state: State = "sound"
    try:
        if must:
            info, state = decoding.check(path, limit, stop)
        else:
            info = decoding.describe(path, stop, limit)
    except DecodingRefused as error:
        raise InputTooLarge(f"is an image that {error}") from None
    if info is None:
        if must:
            raise InvalidRequest(_no_image(path))
        return None
    if info.pixels > limit or info.frames > MAX_FRAMES:
        frames = f" in {info.frames} frames" if info.frames > 1 else ""
        raise InputTooLarge(
            f"has {info.width} x {info.height} pixels{frames}, more than "
            f"{settings.max_input_megapixels:g} megapixels (MAX_INPUT_MEGAPIXELS) "
            f"or {MAX_FRAMES} frames"
        )
    if state == "damaged":
        raise InvalidRequest("is an image, but it is cut off or damaged")
    if state == "cut":
        return "the image is cut off; ComfyUI leaves what is missing of the picture blank"
    return None


def _no_image(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(200)
    media_type = by_content(head)
    if media_type and kind_of(media_type) in {"videos", "audio"}:
        return f"is {media_type}, not an image; give it a name that says so"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not an image; use the address of the image itself"
    return (
        f"is not an image that ComfyUI can load ({', '.join(READABLE)}); "
        "other kinds of files belong in `files`"
    )
