"""Posts a job's result until it arrives, without ever holding all of it a second time.

The SDK writes a result as one text, and that as bytes; a result of 50 MB takes 330 MB so. It tries
for five seconds only, and drops a result that the platform refuses.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from worker_comfyui.errors import InternalError, ResultRefused
from worker_comfyui.platform_side import sdk

log = logging.getLogger(__name__)

TRIES_S = 180.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
NOT_NOW = frozenset({408, 425, 429})  # request timeout, too early, too many requests
TIMEOUT = ClientTimeout(total=600, sock_connect=30, sock_read=60)

_PIECE = 1 << 18
"""Characters that are written at once."""
_DEPTH = 5
"""Levels down to which a result is written in pieces: files' data and texts are above."""
_REASON_BYTES = 500


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer by which the platform says that it does not want a result."""

    status: int
    reason: str


async def post(
    session: ClientSession, job_id: str, result: Mapping[str, Any], *, stop_pod: bool = False
) -> None:
    """Post a result. Where the platform refuses it, post an error that says so, once.

    Args:
        session: One that carries the worker's key.
        job_id: Whose result it is.
        result: What `Worker.run` returns, or an error.
        stop_pod: Ask the platform to replace this worker.
    """
    stop_pod = stop_pod or bool(result.get("refresh_worker"))
    body = Body(_shaped(result, stop_pod=stop_pod))
    if refusal := await _deliver(session, job_id, body):
        error = ResultRefused(
            f"the platform answered {refusal.status} to the result of {body.size} bytes: "
            f"{refusal.reason}"
        )
        if await _deliver(session, job_id, Body(_shaped(error.as_result(), stop_pod=stop_pod))):
            extra = {"event": "result_lost", "job_id": job_id}
            log.error("the platform takes no result for this job", extra=extra)


def _shaped(result: Mapping[str, Any], *, stop_pod: bool) -> dict[str, Any]:
    """Shape what a handler returns as the platform takes it, like the SDK's `run_job`."""
    shaped: dict[str, Any] = {}
    if output := {k: v for k, v in result.items() if k not in {"error", "refresh_worker"}}:
        shaped["output"] = output
    if result.get("error"):
        shaped["error"] = result["error"]
    if stop_pod:
        shaped["stopPod"] = True
    return shaped


class Body:
    """A value as JSON, written anew for each try, a piece at a time.

    Attributes:
        size: Its bytes.
    """

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value
        try:
            self.size = sum(map(len, _encoded(value)))
        except (ValueError, TypeError, RecursionError) as error:
            log.exception("a result is no JSON")
            self._value = _shaped(
                InternalError(f"{type(error).__name__} in the result").as_result(),
                stop_pod=bool(value.get("stopPod")),
            )
            self.size = sum(map(len, _encoded(self._value)))

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        for piece in _encoded(self._value):
            yield piece


def _encoded(value: Any) -> Iterator[bytes]:
    """Yield a value's JSON in pieces of a size that is worth a write."""
    waiting: list[str] = []
    length = 0
    for text in _texts(value, _DEPTH):
        waiting.append(text)
        length += len(text)
        if length >= _PIECE:
            yield "".join(waiting).encode()
            waiting, length = [], 0
    yield "".join(waiting).encode()


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str) and len(value) > _PIECE:
        yield '"'
        for start in range(0, len(value), _PIECE):
            yield _json(value[start : start + _PIECE])[1:-1]
        yield '"'
    elif depth and value and isinstance(value, dict) and all(isinstance(k, str) for k in value):
        for number, (key, item) in enumerate(value.items()):
            yield f"{', ' if number else '{'}{_json(key)}: "
            yield from _texts(item, depth - 1)
        yield "}"
    elif depth and value and isinstance(value, list):
        for number, item in enumerate(value):
            yield ", " if number else "["
            yield from _texts(item, depth - 1)
        yield "]"
    else:
        yield _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


async def _deliver(session: ClientSession, job_id: str, body: Body) -> Refusal | None:
    """Post until the platform has taken it or refuses it, or until TRIES_S have passed."""
    give_up_at = time.monotonic() + TRIES_S
    pause_s = FIRST_PAUSE_S
    extra = {"job_id": job_id}
    while True:
        try:
            refusal = await _try(session, job_id, body)
        except Exception as error:  # noqa: BLE001  # whatever it is, the next try may work
            failure = f"{type(error).__name__}: {error}"
        else:
            if refusal is None:
                return None
            failure = f"the platform answered {refusal.status}: {refusal.reason}"
            if refusal.status < 500 and refusal.status not in NOT_NOW:
                log.error("the result was refused: %s", failure, extra=extra)
                return refusal
        left_s = give_up_at - time.monotonic()
        if left_s <= 0:
            lost = {"event": "result_lost", **extra}
            log.error("the result is lost, after %.0f s: %s", TRIES_S, failure, extra=lost)
            return None
        log.warning("the result did not arrive, it is posted again: %s", failure, extra=extra)
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _try(session: ClientSession, job_id: str, body: Body) -> Refusal | None:
    """Post once; return why it was not taken."""
    async with session.post(
        sdk.result_url(job_id),
        data=body.pieces(),
        # With its length: pieces of unknown number would be sent chunked, unlike the SDK's.
        headers={**sdk.result_headers(job_id), "Content-Length": str(body.size)},
        allow_redirects=False,  # as a GET, without the result
        timeout=TIMEOUT,
    ) as answer:
        if 200 <= answer.status < 300:
            return None
        return Refusal(answer.status, await _reason(answer))


async def _reason(answer: ClientResponse) -> str:
    text = b""
    with suppress(ClientError, OSError, TimeoutError):
        text = await asyncio.wait_for(answer.content.read(_REASON_BYTES), 5)
    return text.decode(errors="replace").strip() or answer.reason or "without a reason"
