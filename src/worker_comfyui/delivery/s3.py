"""The S3 service of a bucket: the part that needs boto3, whose import takes a while.

boto3 makes and signs the requests and reads the answers. They travel on the worker's own
connections (`hosts.connections`), which end with the job and reach checked addresses only, and are
repeated here, with a pause that gives a service the time to recover.
"""

from __future__ import annotations

import errno
import io
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import urllib3
from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPSConnection,
    AWSPreparedRequest,
    AWSResponse,
)
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from requests.utils import get_environ_proxies, select_proxy

from worker_comfyui.config import Secret
from worker_comfyui.delivery.s3_answers import BucketFailed, is_transient, reason
from worker_comfyui.errors import TimedOut
from worker_comfyui.hosts import connections, sockets
from worker_comfyui.hosts.bucket_location import Location
from worker_comfyui.stop import JobCancelled, Stop

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MULTIPART_BYTES = 64 * 1024 * 1024
PART_BYTES = 16 * 1024 * 1024
CONNECT_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 4_000_000
"""Of one answer: the largest, of a file in 10,000 parts, stays far below."""
PAUSES_S = (0.5, 2.0, 5.0)
"""Before the second attempt, the third, ..."""
PATIENCE_S = 60.0
"""Since the first attempt: later, no further one is begun."""
SLOWEST = 50_000
"""Bytes a second that a file must reach, beside PATIENCE_S."""
ABORT_S = 2.0
"""For taking back the parts of a file that will not be completed."""


class _Wary:
    """Takes no endless answer for `100 Continue`, for which boto3 waits before it sends a file."""

    def _consume_headers(self, fp: IO[bytes]) -> None:
        for _ in range(100):
            line = fp.readline(65536)
            if line in {b"\r\n", b"\n"}:
                return
            if not line:
                break
        raise ConnectionError(errno.ECONNRESET, "no end of the headers of `100 Continue`")


class _Plain(_Wary, AWSHTTPConnection):  # type: ignore[misc] # as in botocore
    pass


class _Secure(_Wary, AWSHTTPSConnection):  # type: ignore[misc] # as in botocore
    pass


class S3:
    """A client for one bucket; may be used by several threads."""

    def __init__(
        self,
        location: Location,
        keys: tuple[Secret, Secret],
        *,
        read_timeout_s: float,
        attempts: int,
        allow_private: bool,
    ) -> None:
        """Connect to nothing yet.

        Args:
            location: The bucket.
            keys: Its access key id and its secret access key.
            read_timeout_s: Seconds of silence after which an attempt counts as failed.
            attempts: How often each request is tried.
            allow_private: Whether its address may be a private one, and proxies of the environment
                are used.

        Raises:
            ValueError: boto3 does not take the address or the region.
        """
        self._location = location
        self._attempts = attempts
        self._http = _pool(location.endpoint, read_timeout_s, allow_private=allow_private)
        try:
            self._client = _client(location, keys)
        except BotoCoreError as error:
            raise ValueError(f"is not taken by boto3: {error}") from None
        self._client.meta.events.register("before-send.s3", self._send)

    def presigned_url(self, key: str, expires_s: int) -> str:
        """Make a URL under which anybody can download the file for some time."""
        return self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._location.bucket, "Key": key},
            ExpiresIn=expires_s,
        )

    def put(self, path: Path, key: str, media_type: str, stop: Stop) -> str | None:
        """Upload one file, streamed from disk, a large one in parts; return why it failed, or None.

        S3 stores a file only as a whole: the service's confirmation means that all of it came, with
        the SHA-256 that was signed.

        Raises:
            OSError: the file cannot be read.
            JobCancelled, TimedOut: as `stop` says.
        """
        with path.open("rb"):
            pass  # a fault of the file is none of the bucket
        seconds = PATIENCE_S + path.stat().st_size / SLOWEST
        late = BucketFailed(f"did not take the file within {seconds:.0f} s")
        part = stop.within(seconds, lambda: late)
        give_up_at = time.monotonic() + PATIENCE_S
        pauses = iter(PAUSES_S[: self._attempts - 1])
        while True:
            try:
                self._put_once(path, key, media_type, part)
            except (JobCancelled, TimedOut):
                raise
            except Exception as error:  # noqa: BLE001 - boto3 raises anything on odd answers
                pause = next(pauses, None)
                failed = reason(error, self._location)
                if pause is None or not is_transient(error) or time.monotonic() > give_up_at:
                    return failed
            else:
                return None
            stop.wait(pause)

    def _put_once(self, path: Path, key: str, media_type: str, stop: Stop) -> None:
        # The caller's thread is enough; boto3's own would know nothing of the stop.
        config = TransferConfig(
            use_threads=False, multipart_threshold=MULTIPART_BYTES, multipart_chunksize=PART_BYTES
        )
        with path.open("rb") as file, sockets.bounded(stop):
            self._client.upload_fileobj(
                file,
                self._location.bucket,
                key,
                ExtraArgs={"ContentType": media_type},
                Config=config,
            )

    def _send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> Any:
        """Send a request of boto3's and return the answer."""
        if event_name.endswith(".HeadBucket"):
            # After a redirect it asks for the bucket's region, is redirected again, asks again, ...
            return _no_answer(request)
        stop = sockets.stop_in_use() or Stop(lambda: False)
        if event_name.endswith(".AbortMultipartUpload"):
            late = BucketFailed("did not take back the parts of a file in time")
            stop = Stop(lambda: False).within(ABORT_S, lambda: late)
        with sockets.bounded(stop, max_received=MAX_ANSWER_BYTES):
            body: Any = request.body
            headers: Any = request.headers
            raw: Any = self._http.urlopen(
                request.method,
                request.url,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
            answer = AWSResponse(request.url, raw.status, raw.headers, raw)
            answer.content  # noqa: B018 - reads it, while the bounds hold
            return answer


def _client(location: Location, keys: tuple[Secret, Secret]) -> S3Client:
    return Session().client(
        "s3",
        endpoint_url=location.endpoint,
        region_name=location.region,
        aws_access_key_id=keys[0].value,
        aws_secret_access_key=keys[1].value,
        config=Config(
            signature_version="s3v4",
            s3={
                "addressing_style": location.addressing_style,
                "payload_signing_enabled": True,  # so the service checks every byte
            },
            retries={"total_max_attempts": 1, "mode": "standard"},  # `put` repeats
            # R2, GCS and older MinIO refuse the checksum trailer that is boto3's default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _no_answer(request: AWSPreparedRequest) -> Any:
    nothing: Any = urllib3.HTTPResponse(body=io.BytesIO(), status=404, preload_content=False)
    return AWSResponse(request.url, 404, nothing.headers, nothing)


def _pool(endpoint: str, read_timeout_s: float, *, allow_private: bool) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s),
        "ssl_context": connections.tls(),
    }
    # The operator's bucket may be behind the operator's proxy; a caller's address never is.
    proxy = select_proxy(endpoint, get_environ_proxies(endpoint)) if allow_private else None
    pool = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    pool.pool_classes_by_scheme = connections.pool_classes(
        _Plain, _Secure, allow_private=allow_private
    )
    return pool
