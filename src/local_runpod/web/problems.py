"""Errors that HTTP clients see, as the hosted service's problem JSON."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from local_runpod.json_text import dump


class ProblemError(Exception):
    """A request that is answered with an error: `status` is the HTTP code, `detail` the reason."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """`{"status": 404, "title": "Not Found", "detail": "job not found"}`, code as integer."""
        title = HTTPStatus(self.status).phrase
        body = {"status": self.status, "title": title, "detail": self.detail}
        return web.Response(
            status=self.status,
            headers=self.headers,
            body=dump(body),
            content_type="application/json",
        )
