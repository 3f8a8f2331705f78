"""The body of `/run` and `/runsync`: checked, errors with the field's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from local_runpod import json_text
from local_runpod.limits import Limits
from local_runpod.web.problems import ProblemError


def parse(body: bytes, limits: Limits) -> dict[str, Any]:
    """Check a request. Keys that are not known are tolerated.

    Raises:
        ProblemError: 400 with what is wrong.
    """
    try:
        request = json_text.load(body)
    except ValueError as error:
        raise _bad(f"body: not JSON: {error}") from None
    if not isinstance(request, dict):
        raise _bad("body: must be a JSON object")
    if request.get("input") is None:
        raise _bad('input: missing; the body is {"input": {...}}')
    _check_webhook(request.get("webhook"))
    _check_object("s3Config", request.get("s3Config"))
    policy = _check_object("policy", request.get("policy"))
    _check_milliseconds(policy, "executionTimeout", limits.execution_timeout_range)
    _check_milliseconds(policy, "ttl", limits.ttl_range)
    return request


def milliseconds(request: web.Request, name: str) -> float | None:
    """Read a query parameter in milliseconds, as seconds.

    Raises:
        ProblemError: 400, it is no positive number.
    """
    text = request.query.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise _bad(f"{name}: must be milliseconds, not {text[:40]!r}")
    return value / 1000


def _bad(detail: str) -> ProblemError:
    return ProblemError(400, f"bad request: {detail}")


def _check_webhook(webhook: Any) -> None:
    if webhook is None or webhook == "":
        return
    try:
        parts = urlsplit(webhook if isinstance(webhook, str) else "")
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _bad("webhook: must be an http(s) URL")


def _check_object(name: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _bad(f"{name}: must be an object")
    return value


def _check_milliseconds(policy: Mapping[str, Any], name: str, bounds: tuple[float, float]) -> None:
    value = policy.get(name)
    if value is None:
        return
    low, high = (round(bound * 1000) for bound in bounds)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _bad(f"policy.{name}: must be milliseconds from {low} to {high}")
