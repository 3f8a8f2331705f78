"""The S3 service of a bucket: the part that needs boto3, whose import takes a while."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from worker_comfyui.config import Secret
from worker_comfyui.hosts.bucket_location import Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MULTIPART_BYTES = 64 * 1024 * 1024
PART_BYTES = 16 * 1024 * 1024
CONNECT_TIMEOUT_S = 10.0

_HINTS = {
    "AccessDenied": "the key needs the permission s3:PutObject for this bucket",
    "AllAccessDisabled": "the bucket is locked by its provider",
    "NoSuchBucket": "check the bucket's name and the address",
    "SignatureDoesNotMatch": "check the secret key, and the region (BUCKET_REGION)",
    "InvalidAccessKeyId": "check the access key",
    "AuthorizationHeaderMalformed": "check the region (BUCKET_REGION)",
    "PermanentRedirect": "the bucket is in another region: check the address or BUCKET_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region: check the address",
    "RequestTimeTooSkewed": "the worker's clock is wrong",
    "QuotaExceeded": "the bucket is full",
    "EntityTooLarge": "the file is too large for this service",
}
_BROKEN = {
    "EndpointConnectionError": "could not be reached",
    "ConnectTimeoutError": "could not be reached in time",
    "ReadTimeoutError": "did not answer in time",
    "ConnectionClosedError": "closed the connection",
    "SSLError": "has no valid certificate, or does not speak TLS",
    "ProxyConnectionError": "could not be reached through the proxy",
}


class _Stopped(Exception):
    """The upload was told to stop."""


class S3:
    """A client for one bucket; may be used by several threads."""

    def __init__(
        self,
        location: Location,
        access_key: Secret,
        secret_key: Secret,
        *,
        read_timeout_s: float,
        attempts: int,
    ) -> None:
        """Connect to nothing yet.

        Args:
            location: The bucket.
            access_key: Its access key id.
            secret_key: Its secret access key.
            read_timeout_s: Seconds of silence after which an attempt counts as failed.
            attempts: How often each request is tried.
        """
        self._location = location
        self._secrets = (secret_key.value, access_key.value)
        self._client: S3Client = Session().client(
            "s3",
            endpoint_url=location.endpoint,
            region_name=location.region,
            aws_access_key_id=access_key.value,
            aws_secret_access_key=secret_key.value,
            config=Config(
                signature_version="s3v4",
                s3={
                    "addressing_style": location.addressing_style,
                    "payload_signing_enabled": True,  # so the service checks every byte
                },
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=read_timeout_s,
                retries={"total_max_attempts": attempts, "mode": "standard"},
                # R2, GCS and older MinIO refuse the checksum trailer that is boto3's default.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def presigned_url(self, key: str, expires_s: int) -> str:
        """Make a URL under which anybody can download the file for some time."""
        return self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._location.bucket, "Key": key},
            ExpiresIn=expires_s,
        )

    def put(self, path: Path, key: str, media_type: str, stopped: threading.Event) -> str | None:
        """Upload one file, streamed from disk, a large one in parts; return why it failed, or None.

        S3 stores a file only as a whole: the service's confirmation means that all of it came, with
        the SHA-256 that was signed.

        Raises:
            OSError: the file cannot be read.
        """

        def check(_: int) -> None:
            if stopped.is_set():
                raise _Stopped

        # The caller's thread is enough; boto3's own would outlive a cancelled job.
        config = TransferConfig(
            use_threads=False, multipart_threshold=MULTIPART_BYTES, multipart_chunksize=PART_BYTES
        )
        try:
            with path.open("rb") as file:
                self._client.upload_fileobj(
                    file,
                    self._location.bucket,
                    key,
                    ExtraArgs={"ContentType": media_type},
                    Callback=check,
                    Config=config,
                )
        except (Boto3Error, BotoCoreError, ClientError, _Stopped) as error:
            return self._reason(error)
        return None

    def _reason(self, error: Exception) -> str:
        """Explain a failure in one sentence, with the service's own answer and never a key."""
        if isinstance(error, ClientError):
            answer = error.response.get("Error", {})
            code = str(answer.get("Code", "an error"))
            message = str(answer.get("Message", "")).strip()[:200].rstrip(".")
            text = f"answered {code}: {message}" if message else f"answered {code}"
            if code in _HINTS:
                text = f"{text}; {_HINTS[code]}"
        else:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            text = next((_BROKEN[k] for k in kinds if k in _BROKEN), f"failed: {kinds[0]}")
        text = f"the bucket {self._location.bucket!r} at {self._location.host} {text}"
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())
