"""Upload files to addresses that the caller has signed, one for each file (`output.upload`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.hosts import connections, sockets
from worker_comfyui.hosts.public import NotPublic, resolve
from worker_comfyui.job import UploadTargets
from worker_comfyui.media.media_types import UNKNOWN
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.stop import Stop
from worker_comfyui.wording import cut, status

PARALLEL = 4
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 1_000_000
MAX_QUOTED = 200
PAUSES_S = (0.5, 2.0, 5.0)
PATIENCE_S = 60.0
"""Since the first attempt: later, no further one is begun."""
SLOWEST = 50_000
"""Bytes a second that a file must reach, beside PATIENCE_S."""
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Refused(Exception):
    """The address did not take the file; the message says how it answered."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class _TooSlow(Exception):
    """The file took far longer than it may."""


def check(targets: UploadTargets, stop: Stop, *, allow_private: bool) -> None:
    """See, before any work, that the addresses lead to public hosts.

    Raises:
        InvalidRequest: one does not.
        JobCancelled, TimedOut: as `stop` says.
    """
    seen: set[str] = set()
    for path, url in targets.places():
        parts = urlsplit(url)
        if parts.netloc in seen:
            continue
        seen.add(parts.netloc)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            resolve(parts.hostname or "", port, allow_private=allow_private, stop=stop)
        except (OSError, NotPublic) as error:
            raise InvalidRequest.at(path, str(error)) from None


def upload(
    files: Sequence[OutputFile], targets: UploadTargets, stop: Stop, *, allow_private: bool
) -> list[str]:
    """Upload the files that have an address, and note it in each; return what did not go well.

    An address is for the file of its name, or for the next file of its kind. A file without one, or
    whose address did not take it, is left for other ways of delivery.

    Raises:
        JobCancelled, TimedOut: as `stop` says; nothing goes on after it.
        OSError: a file cannot be read.
    """
    chosen, warnings = _chosen(files, targets)
    if chosen:
        with (
            ThreadPoolExecutor(min(PARALLEL, len(chosen)), thread_name_prefix="upload") as pool,
            connections.pool(
                allow_private=allow_private,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            ) as http,
        ):
            sent = pool.map(lambda one: _Upload(http, *one).run(stop), chosen)
            warnings += [failure for failure in sent if failure]
    return warnings


def _chosen(
    files: Sequence[OutputFile], targets: UploadTargets
) -> tuple[list[tuple[OutputFile, str]], list[str]]:
    by_name = dict(targets.by_name)
    by_kind: dict[str, Iterator[str]] = {k: iter(urls) for k, urls in targets.by_kind.items()}
    chosen = []
    for file in files:
        names = [name for name in (file.name, file.filename) if name in by_name]
        url = by_name.pop(names[0]) if names else next(by_kind.get(file.kind, iter(())), None)
        if url is not None:
            chosen.append((file, url))
    warnings = [
        f"output.upload has an address for {cut(name)}, and the workflow made no such file"
        for name in by_name
    ]
    return chosen, warnings


@dataclass(frozen=True, slots=True)
class _Upload:
    """One file on its way to its address."""

    http: urllib3.PoolManager
    file: OutputFile
    url: str

    def run(self, stop: Stop) -> str | None:
        """Upload the file, and note its address; return why it was not taken, or None."""
        seconds = PATIENCE_S + self.file.bytes / SLOWEST
        part = stop.within(seconds, lambda: _TooSlow(f"took more than {seconds:.0f} s"))
        give_up_at = time.monotonic() + PATIENCE_S
        pauses = iter(PAUSES_S)
        while True:
            try:
                self._once(part)
            except (_Refused, _TooSlow, NotPublic, *connections.FAILURES) as error:
                failed = _reason(error)
                pause = next(pauses, None) if _is_transient(error) else None
                if pause is None or time.monotonic() > give_up_at:
                    host = urlsplit(self.url).netloc.rpartition("@")[2]
                    return f"{self.file.name} was not taken by {cut(host)}: it {failed}"
            else:
                self.file.url = self.url.partition("?")[0]  # the rest is the signature
                self.file.uploaded = True
                return None
            stop.wait(pause)

    def _once(self, stop: Stop) -> None:
        headers = {
            "Content-Type": self.file.media_type or UNKNOWN,
            "Content-Length": str(self.file.bytes),  # S3 takes no file in chunks
        }
        if urlsplit(self.url).netloc.endswith(".blob.core.windows.net"):
            # https://learn.microsoft.com/rest/api/storageservices/put-blob#request-headers
            headers["x-ms-blob-type"] = "BlockBlob"
        with (
            self.file.copy.open("rb") as body,
            sockets.bounded(stop, max_received=MAX_ANSWER_BYTES),
        ):
            answer = self.http.request(
                "PUT", self.url, body=body, headers=headers, redirect=False, retries=False
            )
        if not 200 <= answer.status < 300:
            said = " ".join(answer.data[:2000].decode("utf-8", "replace").split())
            raise _Refused(
                f"answered {status(answer.status)}: {cut(said, MAX_QUOTED)}",
                transient=answer.status in _TRANSIENT,
            )


def _reason(error: Exception) -> str:
    if isinstance(error, connections.FAILURES):
        return connections.reason(error)
    return f"cannot be used: {error}" if isinstance(error, NotPublic) else str(error)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, _Refused):
        return error.transient
    return isinstance(error, connections.FAILURES) and connections.is_transient(error)
