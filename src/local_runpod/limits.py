"""The platform's numbers: sizes, waits, retention. The defaults are the hosted service's."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024
MINUTE_S = 60.0
DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds unless a name says otherwise; bytes for sizes.

    Sources: https://docs.runpod.io/serverless/endpoints/operation-reference (request sizes, waits,
    policy ranges), .../send-requests (retention). What is marked "own" has no hosted value.
    """

    # Hosted counts the one in MiB, by its answers, and documents the other in MB.
    run_body: int = 10 * MEBIBYTE
    runsync_body: int = 20_000_000
    run_result: int = 10 * MEBIBYTE
    runsync_result: int = 20_000_000

    wait: float = 90.0
    wait_range: tuple[float, float] = (1.0, 300.0)
    # The Python SDK gives up on a `/stream` after 10 s and sends it again, losing what it drained.
    stream_wait: float = 5.0

    execution_timeout: float = 600.0
    execution_timeout_range: tuple[float, float] = (5.0, 7 * DAY_S)
    ttl: float = DAY_S
    ttl_range: tuple[float, float] = (10.0, 7 * DAY_S)
    run_retention: float = 30 * MINUTE_S
    runsync_retention: float = MINUTE_S

    automatic_retries: int = 1
    queue_length: int = 500  # own: hosted allows 500 for each worker
    kept_bytes: int = 2_000_000_000  # own: requests and results in memory

    body_timeout: float = 60.0  # own: for a request's body to arrive
    poll: float = 20.0  # own: the SDK waits up to 90 s
    ping_interval: float = 10.0
    lost_after: float = 35.0  # own: without a ping; hosted re-dispatched after about 45 s
    unowned_after: float = 35.0  # own: a job that its worker's pings do not name
    stop_not_before: float = 0.5  # own: an SDK loses the stop of a job that it has not begun yet

    # Captured at +5 s and +20 s after the first try.
    webhook_gaps: tuple[float, ...] = (5.0, 15.0)
    webhook_timeout: float = 10.0
