"""The page for people and the description for machines: files of this project."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from local_runpod.web.problems import ProblemError

HERE = Path(__file__).resolve()
PAGE = HERE.parents[1] / "page"
DESCRIPTION = HERE.parents[3] / "docs" / "openapi.json"

TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
# A result may be the URL of a file in a bucket: public ones are https, those for tests are local.
BUCKETS = "https: http://127.0.0.1:* http://localhost:*"
HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' blob: {BUCKETS}",
            f"media-src blob: {BUCKETS}",
            "connect-src 'self' https://api.runpod.ai",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    ),
    "Cache-Control": "no-cache",  # another version may serve the same address next
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Page:
    """Serves the files; needs no key, since it tells nothing of anybody."""

    def __init__(self) -> None:
        self._files = {path.name: path for path in PAGE.iterdir() if path.suffix in TYPES}

    async def index(self, _request: web.Request) -> web.Response:
        """`GET /`."""
        return _file(PAGE / "index.html")

    async def asset(self, _request: web.Request, name: str) -> web.Response:
        """`GET /page/NAME`: one of the files that lay there at the start, by its name alone."""
        path = self._files.get(name)
        if path is None:
            raise ProblemError(404, "the page has no such file")
        return _file(path)

    async def description(self, _request: web.Request) -> web.Response:
        """`GET /openapi.json`."""
        if not DESCRIPTION.exists():
            raise ProblemError(404, f"{DESCRIPTION.name} was not installed with this server")
        return _file(DESCRIPTION)


def _file(path: Path) -> web.Response:
    return web.Response(
        body=path.read_bytes(), content_type=TYPES[path.suffix], charset="utf-8", headers=HEADERS
    )
