"""Fetched files → the lists of a result: converted, then inline as base64 or as a bucket's URL.

Size policy: the encoded result must stay below the limit of the platform. What does not fit goes to
the bucket, the largest first; what the bucket does not take comes inline, if it fits. Nothing is
dropped: what can go neither way is an error.
"""

from __future__ import annotations

import binascii
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from worker_comfyui.comfyui.outputs import Artifact
from worker_comfyui.delivery.bucket import Bucket, Upload, UploadFailed
from worker_comfyui.errors import DeliveryFailed, InvalidRequest, ResultTooLarge
from worker_comfyui.job import OutputOptions
from worker_comfyui.media.images import ConversionError, ImageInfo, convert, describe
from worker_comfyui.media.media_types import HEAD_BYTES, KINDS, UNKNOWN, Kind, by_content, kind_of
from worker_comfyui.stop import JobCancelled
from worker_comfyui.workspace import disk_errors

MEGA = 1_000_000
URL_BYTES = 2048
"""Room for a presigned URL in the result."""

_CHUNK_BYTES = 3 * (1 << 18)  # a multiple of 3: base64 of the pieces is base64 of the whole


@dataclass(frozen=True, slots=True)
class Fetched:
    """An artifact and its copy on this machine, in a folder of the worker's."""

    artifact: Artifact
    path: Path


@dataclass(frozen=True, slots=True)
class Delivered:
    """What goes into the result.

    Attributes:
        lists: `images`, `videos`, `audio`, `files`: each where it has an item.
        warnings: Sentences for `errors`: what did not go as asked.
    """

    lists: dict[str, list[dict[str, Any]]]
    warnings: list[str]


@dataclass(slots=True)
class _File:
    """A file on its way into the result."""

    path: Path
    kind: Kind
    media_type: str
    node_id: str
    subfolder: str
    filename: str
    info: ImageInfo | None
    url: str | None = None

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size

    @property
    def name(self) -> str:
        return f"{self.subfolder}/{self.filename}" if self.subfolder else self.filename

    @property
    def inline_bytes(self) -> int:
        """Its size in the result as base64, with all that stands around it."""
        return 4 * ((self.bytes + 2) // 3) + len(json.dumps(self.item(""))) + 2

    @property
    def linked_bytes(self) -> int:
        """Its size in the result as a URL."""
        return URL_BYTES + len(json.dumps(self.item(""))) + 2

    def item(self, data: str) -> dict[str, Any]:
        """Shape it for the result."""
        item: dict[str, Any] = {
            "filename": self.filename,
            "type": "base64" if self.url is None else "s3_url",
            "data": data,
            "media_type": self.media_type,
            "bytes": self.bytes,
            "node_id": self.node_id,
        }
        if self.subfolder:
            item["subfolder"] = self.subfolder
        if self.info:
            item |= {"width": self.info.width, "height": self.info.height}
            if self.info.animated:
                item["animated"] = True
        return item


def check(options: OutputOptions, bucket: Bucket | None) -> None:
    """Check, before any work, that the results can be delivered as asked.

    Raises:
        InvalidRequest: `s3` is asked for, but there is no bucket.
    """
    if options.delivery == "s3" and bucket is None:
        path = "output.delivery"
        message = (
            '"s3" needs a bucket, and this endpoint has none: '
            "set BUCKET_ENDPOINT_URL and its keys, or send `s3Config`"
        )
        raise InvalidRequest(f"{path}: {message}", [{"path": path, "message": message}])


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one job's files reach its caller.

    Attributes:
        options: What the caller asked for.
        bucket: Where files are uploaded; None: nowhere.
        job_id: For the keys in the bucket.
        job_folder: The folder that the worker put before the caller's own; it is taken off again.
        limit_bytes: How large the lists may be as JSON.
        cancelled: Whether to stop.
    """

    options: OutputOptions
    bucket: Bucket | None
    job_id: str
    job_folder: str
    limit_bytes: int
    cancelled: Callable[[], bool]

    def deliver(self, fetched: Sequence[Fetched]) -> Delivered:
        """Convert files as asked, and put them into lists or into the bucket.

        Args:
            fetched: The files, in the order of the result. Conversions are written beside them.

        Raises:
            InvalidRequest: `s3` is asked for, but there is no bucket.
            ResultTooLarge: too large to be inline, and there is no bucket.
            DeliveryFailed: too large to be inline, and the bucket did not take it.
            DiskFull: there is no space for a converted image.
            JobCancelled: `cancelled` became true.
        """
        check(self.options, self.bucket)
        warnings: list[str] = []
        files: list[_File] = []
        with disk_errors():
            for one in fetched:
                self._check_cancelled()
                files.append(self._prepared(one, warnings))
        _make_names_unique(files)
        failure = None
        if self.bucket is not None:
            asked_inline = self.options.delivery == "base64"
            chosen = _overflow(files, self.limit_bytes) if asked_inline else files
            failure = self._upload(self.bucket, chosen)
            if asked_inline:
                warnings += [self._moved(file) for file in chosen if file.url]
        if _size(files) > self.limit_bytes:
            if failure:
                raise DeliveryFailed(f"{failure}. {self._too_large(files)}")
            raise ResultTooLarge(f"{self._too_large(files)} {ResultTooLarge.hint}")
        if failure:
            inline = ", ".join(file.name for file in files if file.url is None)
            warnings.append(f"{failure}; returned inline instead: {inline}")
        return Delivered(self._lists(files), warnings)

    def _check_cancelled(self) -> None:
        if self.cancelled():
            raise JobCancelled

    def _prepared(self, fetched: Fetched, warnings: list[str]) -> _File:
        """Convert and describe one file."""
        file = _described(fetched, self.job_folder)
        if file.kind != "images":
            return file
        try:
            converted = convert(file.path, self.options)
        except ConversionError as error:
            warnings.append(f"{file.name} could not be converted and is returned as it is: {error}")
            return file
        if converted is None:
            return file
        if converted.note:
            warnings.append(f"{file.name}: {converted.note}")
        info = describe(converted.path)
        return replace(
            file,
            path=converted.path,
            info=info,
            media_type=info.media_type if info else file.media_type,
            filename=_renamed(file.filename, converted.extension),
        )

    def _upload(self, bucket: Bucket, files: Sequence[_File]) -> str | None:
        """Upload files and note their URLs; return why some were not taken."""
        uploads = [
            Upload(f.path, bucket.key(self.job_id, f.subfolder, f.filename), f.media_type)
            for f in files
        ]
        failure = None
        for file, result in zip(files, bucket.upload(uploads, self.cancelled), strict=True):
            if isinstance(result, UploadFailed):
                failure = failure or result.reason
            else:
                file.url = result
        return failure

    def _lists(self, files: Iterable[_File]) -> dict[str, list[dict[str, Any]]]:
        lists: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        for file in files:
            self._check_cancelled()
            lists[file.kind].append(file.item(_base64(file.path) if file.url is None else file.url))
        return {kind: items for kind, items in lists.items() if items}

    def _moved(self, file: _File) -> str:
        return (
            f"{file.name} ({_megabytes(file.bytes)}) went to the bucket, since the result would "
            f"be above {_megabytes(self.limit_bytes)}"
        )

    def _too_large(self, files: Sequence[_File]) -> str:
        largest = sorted((f for f in files if f.url is None), key=lambda f: f.bytes, reverse=True)
        names = ", ".join(f"{file.name} {_megabytes(file.bytes)}" for file in largest[:5])
        more = f" and {len(largest) - 5} more" if len(largest) > 5 else ""
        return (
            f"The result would have {_megabytes(_size(files))} as JSON, and at most "
            f"{_megabytes(self.limit_bytes)} can be returned ({names}{more})."
        )


def _described(fetched: Fetched, job_folder: str) -> _File:
    artifact = fetched.artifact
    media_type, kind = artifact.media_type, artifact.kind
    if media_type is None:
        with fetched.path.open("rb") as stream:
            media_type = by_content(stream.read(HEAD_BYTES))
        kind = kind_of(media_type) if media_type else kind
    info = describe(fetched.path) if kind == "images" else None
    return _File(
        path=fetched.path,
        kind=kind,
        media_type=info.media_type if info else media_type or UNKNOWN,
        node_id=artifact.node_id,
        subfolder=_without(artifact.subfolder, job_folder),
        filename=artifact.filename,
        info=info,
    )


def _without(subfolder: str, job_folder: str) -> str:
    """Take the job's own folder off."""
    if subfolder == job_folder:
        return ""
    return subfolder.removeprefix(f"{job_folder}/")


def _renamed(filename: str, extension: str) -> str:
    path = PurePosixPath(filename)
    known = {".jpg", ".jpeg"} if extension == ".jpg" else {extension}
    return filename if path.suffix.lower() in known else path.stem + extension


def _make_names_unique(files: Iterable[_File]) -> None:
    """Tell files apart that got one name: a.png and a.jpg, say, both made WebP."""
    taken: set[str] = set()
    for file in files:
        path = PurePosixPath(file.filename)
        for number in itertools.count(2):
            if file.name not in taken:
                break
            file.filename = f"{path.stem}_{number}{path.suffix}"
        taken.add(file.name)


def _size(files: Iterable[_File]) -> int:
    return sum(file.inline_bytes if file.url is None else file.linked_bytes for file in files)


def _overflow(files: Sequence[_File], limit_bytes: int) -> list[_File]:
    """Choose what has to go to the bucket so that the rest fits: the largest first."""
    size = _size(files)
    chosen = []
    for file in sorted(files, key=lambda file: file.inline_bytes, reverse=True):
        if size <= limit_bytes:
            break
        size -= file.inline_bytes - file.linked_bytes
        chosen.append(file)
    return chosen


def _base64(path: Path) -> str:
    pieces = []
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            pieces.append(binascii.b2a_base64(piece, newline=False).decode("ascii"))
    return "".join(pieces)


def _megabytes(count: int) -> str:
    return f"{count / MEGA:.1f} MB" if count >= MEGA / 10 else f"{count / 1000:.1f} kB"
