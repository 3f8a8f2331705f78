"""Fetched files → files as they are delivered: their kind by content, converted as asked."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from worker_comfyui.job import OutputOptions
from worker_comfyui.media import decoding
from worker_comfyui.media.image_info import ConversionError, DecodingRefused, ImageInfo
from worker_comfyui.media.media_types import HEAD_BYTES, by_content, kind_of
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.media.playing import playing
from worker_comfyui.stop import Stop

_CHUNK_BYTES = 1 << 20


def prepared(
    file: OutputFile, options: OutputOptions, warnings: list[str], stop: Stop
) -> OutputFile:
    """Describe one file and convert it as asked; what did not go well is put into `warnings`."""
    file = _converted(_described(file, stop), options, warnings, stop)
    file.sha256 = _sha256(file.copy, stop)
    return file


def _converted(
    file: OutputFile, options: OutputOptions, warnings: list[str], stop: Stop
) -> OutputFile:
    if file.kind != "images":
        return file
    try:
        converted = decoding.convert(file.copy, options, stop)
    except ConversionError as error:
        warnings.append(f"{file.name} could not be converted and is returned as it is: {error}")
        return file
    if converted is None:
        return file
    if converted.note:
        warnings.append(f"{file.name}: {converted.note}")
    info = converted.info
    return replace(
        file,
        path=converted.path,
        info=info,
        media_type=info.media_type if info else file.media_type,
        filename=_renamed(file.filename, converted.extension),
    )


def make_names_unique(files: Iterable[OutputFile]) -> None:
    """Tell files apart that got one name: a.png and a.jpg, say, both made WebP."""
    taken: set[str] = set()
    for file in files:
        path = PurePosixPath(file.filename)
        for number in itertools.count(2):
            if file.name not in taken:
                break
            file.filename = f"{path.stem}_{number}{path.suffix}"
        taken.add(file.name)


def _described(file: OutputFile, stop: Stop) -> OutputFile:
    media_type, kind = file.media_type, file.kind
    if media_type is None:
        with file.copy.open("rb") as stream:
            media_type = by_content(stream.read(HEAD_BYTES))
        kind = kind_of(media_type) if media_type else kind
    info = _info(file.copy, stop) if kind == "images" else None
    plays = playing(file.copy) if kind in {"videos", "audio"} else None
    media_type = info.media_type if info else media_type
    return replace(file, kind=kind, media_type=media_type, info=info, playing=plays)


def _sha256(path: Path, stop: Stop) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
            stop.check()
    return digest.hexdigest()


def _info(path: Path, stop: Stop) -> ImageInfo | None:
    try:
        return decoding.describe(path, stop)
    except DecodingRefused:
        return None  # it is delivered all the same, without its size


def _renamed(filename: str, extension: str) -> str:
    path = PurePosixPath(filename)
    known = {".jpg", ".jpeg"} if extension == ".jpg" else {extension}
    return filename if path.suffix.lower() in known else path.stem + extension
