"""Upload files to an S3 bucket."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from worker_comfyui.config import Secret, Settings
from worker_comfyui.errors import ConfigurationError, InvalidRequest
from worker_comfyui.hosts.bucket_location import Location, locate
from worker_comfyui.hosts.public import NotPublic, resolve
from worker_comfyui.job import S3Config
from worker_comfyui.stop import JobCancelled

if TYPE_CHECKING:
    from worker_comfyui.delivery.s3 import S3

PARALLEL_UPLOADS = 4
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Upload:
    """One file to upload: where it is, its key in the bucket, and its media type."""

    path: Path
    key: str
    media_type: str


@dataclass(frozen=True, slots=True)
class UploadFailed:
    """The bucket did not take a file; `reason` says why in one sentence."""

    reason: str


@dataclass(frozen=True)
class Bucket:
    """A bucket and the keys to it.

    Attributes:
        location: Where it is.
        access_key: Its access key id.
        secret_key: Its secret access key.
        prefix: Folder in the bucket for everything.
        url_expiry_s: Seconds for which a presigned URL is valid.
        public_url: Base address for permanent URLs, instead of presigned ones.
        read_timeout_s: Seconds of silence after which an attempt counts as failed.
        attempts: How often each request is tried.
    """

    location: Location
    access_key: Secret
    secret_key: Secret
    prefix: str = ""
    url_expiry_s: int = 604800
    public_url: str | None = None
    read_timeout_s: float = 60.0
    attempts: int = 4

    @classmethod
    def from_settings(cls, settings: Settings) -> Bucket | None:
        """Make the worker's bucket; None: none is configured.

        Raises:
            ConfigurationError: the address and the name do not lead to one bucket.
        """
        if not (
            settings.bucket_endpoint_url
            and settings.bucket_access_key_id
            and settings.bucket_secret_access_key
        ):
            return None
        try:
            location = locate(
                settings.bucket_endpoint_url, settings.bucket_name, settings.bucket_region
            )
        except ValueError as error:
            raise ConfigurationError(
                f"BUCKET_ENDPOINT_URL {error} (BUCKET_NAME is the bucket's name)"
            ) from None
        return cls(
            location,
            settings.bucket_access_key_id,
            settings.bucket_secret_access_key,
            prefix=settings.bucket_prefix,
            url_expiry_s=settings.bucket_url_expiry_s,
            public_url=settings.bucket_public_url,
        )

    @classmethod
    def from_s3_config(cls, config: S3Config, settings: Settings) -> Bucket:
        """Make the caller's bucket. The worker's prefix and public address are not for it.

        Its host must be public, as that of an input URL (ALLOW_PRIVATE_INPUT_URLS).

        Raises:
            InvalidRequest: the address and the name do not lead to one bucket, or not to a
                public host.
        """
        try:
            location = locate(config.endpoint_url, config.bucket_name, None)
            parts = urlsplit(location.endpoint)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            resolve(parts.hostname or "", port, allow_private=settings.allow_private_input_urls)
        except ValueError as error:
            message = f"{error} (`s3Config.bucketName` is the bucket's name)"
        except (OSError, NotPublic) as error:
            message = str(error)
        else:
            return cls(
                location,
                config.access_id,
                config.access_secret,
                url_expiry_s=settings.bucket_url_expiry_s,
            )
        raise InvalidRequest.at("s3Config.endpointUrl", message)

    def prepare(self) -> None:
        """Import and set up boto3, which takes half a second that no job should wait for."""
        _ = self._service

    def key(self, job_id: str, subfolder: str, filename: str) -> str:
        """Make the key of a job's file: `prefix/job id/subfolder/filename`."""
        job = re.sub(r"[^\w.-]", "_", job_id)
        parts = [*self.prefix.split("/"), job, *subfolder.split("/"), filename]
        return "/".join("_" if part == ".." else part for part in parts if part not in {"", "."})

    def url(self, key: str) -> str:
        """Make the URL under which a file can be downloaded."""
        if self.public_url:
            return f"{self.public_url}/{quote(key)}"
        return self._service.presigned_url(key, self.url_expiry_s)

    def upload(
        self, uploads: Sequence[Upload], cancelled: Callable[[], bool]
    ) -> list[str | UploadFailed]:
        """Upload files, several at a time; return for each its URL or why it failed.

        A file has a URL only if the service confirmed all of it. Once one file failed, after its
        retries, no further one is begun: the same would happen to it.

        Raises:
            JobCancelled: `cancelled` became true; what is under way ends by itself.
            OSError: a file cannot be read.
        """
        batch = _Batch(self, self._service, uploads)
        threads = [
            threading.Thread(target=batch.work, name="upload", daemon=True)
            for _ in range(min(PARALLEL_UPLOADS, len(uploads)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_POLL_S)
                if cancelled():
                    batch.stopped.set()
                    raise JobCancelled
        return batch.outcome()

    @cached_property
    def _service(self) -> S3:
        # boto3 takes a while to import; a worker without a bucket need not wait for it.
        from worker_comfyui.delivery.s3 import S3  # noqa: PLC0415 - see above

        return S3(
            self.location,
            self.access_key,
            self.secret_key,
            read_timeout_s=self.read_timeout_s,
            attempts=self.attempts,
        )


class _Batch:
    """Uploads that share a fate: the first failure ends the taking of new ones."""

    def __init__(self, bucket: Bucket, service: S3, uploads: Sequence[Upload]) -> None:
        self.stopped = threading.Event()
        self._bucket = bucket
        self._service = service
        self._uploads = uploads
        self._results: list[str | UploadFailed | None] = [None] * len(uploads)
        self._failure: UploadFailed | None = None
        self._error: Exception | None = None
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(uploads)):
            self._waiting.put(index)

    def work(self) -> None:
        while not (self._failure or self._error or self.stopped.is_set()):
            try:
                index = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._results[index] = self._one(self._uploads[index])
            except Exception as error:  # noqa: BLE001 - the thread that waits raises it
                self._error = error

    def _one(self, upload: Upload) -> str | UploadFailed:
        reason = self._service.put(upload.path, upload.key, upload.media_type, self.stopped)
        if reason is None:
            return self._bucket.url(upload.key)
        self._failure = UploadFailed(reason)
        return self._failure

    def outcome(self) -> list[str | UploadFailed]:
        if self._error is not None:
            raise self._error
        skipped = self._failure or UploadFailed("the upload was stopped")
        return [skipped if result is None else result for result in self._results]
