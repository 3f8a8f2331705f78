"""Fetched files → the lists of a result: converted, then inline as base64 or as a bucket's URL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from worker_comfyui.delivery import items, presigned, size_policy
from worker_comfyui.delivery.bucket import Bucket, Upload, UploadFailed
from worker_comfyui.delivery.preparing import make_names_unique, prepared
from worker_comfyui.errors import DeliveryFailed, InvalidRequest, ResultTooLarge, disk_errors
from worker_comfyui.job import OutputOptions
from worker_comfyui.media.media_types import KINDS, UNKNOWN
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.stop import Stop


@dataclass(frozen=True, slots=True)
class Delivered:
    """What goes into the result.

    Attributes:
        lists: `images`, `videos`, `audio`, `files`: each where it has an item.
        warnings: Sentences for `errors`: what did not go as asked.
    """

    lists: dict[str, list[dict[str, Any]]]
    warnings: list[str]


def check(options: OutputOptions, bucket: Bucket | None) -> None:
    """Check, before any work, that the results can be delivered as asked.

    Raises:
        InvalidRequest: `s3` is asked for, but there is no bucket.
    """
    if options.delivery == "s3" and bucket is None:
        raise InvalidRequest.at(
            "output.delivery",
            '"s3" needs a bucket, and this endpoint has none: '
            "set BUCKET_ENDPOINT_URL and its keys, or send `s3Config`",
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one job's files reach its caller.

    Attributes:
        options: What the caller asked for.
        bucket: Where files are uploaded; None: nowhere.
        job_id: For the keys in the bucket.
        limit_bytes: How large the lists may be as JSON.
        stop: Ends it.
        allow_private: Whether `output.upload` may name private addresses.
    """

    options: OutputOptions
    bucket: Bucket | None
    job_id: str
    limit_bytes: int
    stop: Stop
    allow_private: bool = False

    def deliver(self, fetched: Sequence[OutputFile]) -> Delivered:
        """Convert files as asked, and put them into lists or into the bucket.

        Args:
            fetched: The files, in the order of the result. Conversions are written beside them.

        Raises:
            InvalidRequest: `s3` is asked for, but there is no bucket.
            ResultTooLarge: too large to be inline, and there is no bucket.
            DeliveryFailed: too large to be inline, and the bucket did not take it.
            DiskFull: there is no space for a converted image.
            JobCancelled, TimedOut: as `stop` says.
        """
        check(self.options, self.bucket)
        warnings: list[str] = []
        files: list[OutputFile] = []
        with disk_errors():
            for one in fetched:
                self.stop.check()
                files.append(prepared(one, self.options, warnings, self.stop))
        make_names_unique(files)
        warnings += presigned.upload(
            files, self.options.upload, self.stop, allow_private=self.allow_private
        )
        failure = None
        if self.bucket is not None:
            asked_inline = self.options.delivery == "base64"
            chosen = (
                size_policy.overflow(files, self.limit_bytes)
                if asked_inline
                else [file for file in files if file.url is None]
            )
            failure = self._upload(self.bucket, chosen)
            if asked_inline:
                warnings += [size_policy.moved(f, self.limit_bytes) for f in chosen if f.url]
        if items.size(files) > self.limit_bytes:
            too_large = size_policy.too_large(files, self.limit_bytes)
            if failure:
                raise DeliveryFailed(f"{failure}. {too_large}")
            raise ResultTooLarge(f"{too_large} {ResultTooLarge.hint}")
        if failure:
            inline = ", ".join(file.name for file in files if file.url is None)
            warnings.append(f"{failure}; returned inline instead: {inline}")
        return Delivered(self._lists(files), warnings)

    def _upload(self, bucket: Bucket, files: Sequence[OutputFile]) -> str | None:
        """Upload files and note their URLs; return why some were not taken."""
        uploads = [
            Upload(
                f.copy, bucket.key(self.job_id, f.subfolder, f.filename), f.media_type or UNKNOWN
            )
            for f in files
        ]
        failure = None
        for file, result in zip(files, bucket.upload(uploads, self.stop), strict=True):
            if isinstance(result, UploadFailed):
                failure = failure or result.reason
            else:
                file.url = result
        return failure

    def _lists(self, files: Iterable[OutputFile]) -> dict[str, list[dict[str, Any]]]:
        lists: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        for file in files:
            self.stop.check()
            data = items.base64(file.copy) if file.url is None else file.url
            item = items.item(file, data)
            if file.is_listed_as_image and file.kind == "videos":
                lists["images"].append(item)
                item = items.reference(item, "images", len(lists["images"]) - 1)
            lists[file.kind].append(item)
        return {kind: listed for kind, listed in lists.items() if listed}
