"""Upload files to an S3 bucket."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from worker_comfyui.config import Secret, Settings
from worker_comfyui.errors import InvalidRequest
from worker_comfyui.hosts.bucket_location import Location, locate
from worker_comfyui.hosts.public import NotPublic, resolve
from worker_comfyui.job import S3Config
from worker_comfyui.stop import Stop

if TYPE_CHECKING:
    from worker_comfyui.delivery.s3 import S3

log = logging.getLogger(__name__)

PARALLEL_UPLOADS = 4


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
        allow_private: Whether its address may be a private one.
        read_timeout_s: Seconds of silence after which an attempt counts as failed.
        attempts: How often each request is tried.
    """

    location: Location
    access_key: Secret
    secret_key: Secret
    prefix: str = ""
    url_expiry_s: int = 604800
    public_url: str | None = None
    allow_private: bool = True
    read_timeout_s: float = 30.0
    attempts: int = 4

    @classmethod
    def from_settings(cls, settings: Settings) -> Bucket | None:
        """Make the worker's bucket; None: none is configured."""
        location = settings.bucket_location()
        access_key, secret_key = settings.bucket_access_key_id, settings.bucket_secret_access_key
        if location is None or access_key is None or secret_key is None:
            if access_key or secret_key:
                log.warning(
                    "there are keys for a bucket, but no BUCKET_ENDPOINT_URL: "
                    "files are returned inline"
                )
            return None
        return cls(
            location,
            access_key,
            secret_key,
            prefix=settings.bucket_prefix,
            url_expiry_s=settings.bucket_url_expiry_s,
            public_url=settings.bucket_public_url,
        )

    @classmethod
    def from_s3_config(cls, config: S3Config, settings: Settings, stop: Stop) -> Bucket:
        """Make the caller's bucket. The worker's prefix and public address are not for it.

        Its host must be public, as that of an input URL (ALLOW_PRIVATE_INPUT_URLS).

        Raises:
            InvalidRequest: the address and the name do not lead to one bucket, or not to a
                public host.
            JobCancelled, TimedOut: as `stop` says.
        """
        private = settings.allow_private_input_urls
        try:
            location = locate(
                config.endpoint_url, config.bucket_name, None, called="`s3Config.bucketName`"
            )
            parts = urlsplit(location.endpoint)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            # Told here, before any work; what counts is the same check when it is connected to.
            resolve(parts.hostname or "", port, allow_private=private, stop=stop)
            bucket = cls(
                location,
                config.access_id,
                config.access_secret,
                url_expiry_s=settings.bucket_url_expiry_s,
                allow_private=private,
            )
            bucket.prepare()
        except (ValueError, OSError, NotPublic) as error:
            raise InvalidRequest.at("s3Config.endpointUrl", str(error)) from None
        return bucket

    def prepare(self) -> None:
        """Import and set up boto3, which takes half a second that no job should wait for.

        Raises:
            ValueError: boto3 does not take the address.
        """
        _ = self._service

    def key(self, job_id: str, subfolder: str, filename: str) -> str:
        """Make the key of a job's file: `prefix/job id/subfolder/filename`."""
        job = re.sub(r"[^\w.-]", "_", job_id)  # a uuid there, but nothing promises that
        parts = [*self.prefix.split("/"), job, *subfolder.split("/"), filename]
        return "/".join("_" if part == ".." else part for part in parts if part not in {"", "."})

    def url(self, key: str) -> str:
        """Make the URL under which a file can be downloaded."""
        if self.public_url:
            return f"{self.public_url}/{quote(key)}"
        return self._service.presigned_url(key, self.url_expiry_s)

    def upload(self, uploads: Sequence[Upload], stop: Stop) -> list[str | UploadFailed]:
        """Upload files, several at a time; return for each its URL or why it failed.

        A file has a URL only if the service confirmed all of it. Once one file failed, after its
        retries, no further one is begun: the same would happen to it.

        Raises:
            JobCancelled, TimedOut: as `stop` says; nothing goes on after it.
            OSError: a file cannot be read.
        """
        if not uploads:
            return []
        failed = _FirstFailure()
        with ThreadPoolExecutor(
            min(PARALLEL_UPLOADS, len(uploads)), thread_name_prefix="upload"
        ) as pool:
            return list(pool.map(lambda upload: self._one(upload, stop, failed), uploads))

    def _one(self, upload: Upload, stop: Stop, failed: _FirstFailure) -> str | UploadFailed:
        stop.check()
        if failed.seen:
            return failed.seen
        reason = self._service.put(upload.path, upload.key, upload.media_type, stop)
        if reason is None:
            return self.url(upload.key)
        failed.seen = UploadFailed(reason)
        return failed.seen

    @cached_property
    def _service(self) -> S3:
        # boto3 takes a while to import; a worker without a bucket need not wait for it.
        from worker_comfyui.delivery.s3 import S3  # noqa: PLC0415 - see above

        return S3(
            self.location,
            (self.access_key, self.secret_key),
            read_timeout_s=self.read_timeout_s,
            attempts=self.attempts,
            allow_private=self.allow_private,
        )


@dataclass(slots=True)
class _FirstFailure:
    """What files share that are uploaded together: when one fails, no further one is begun."""

    seen: UploadFailed | None = None
