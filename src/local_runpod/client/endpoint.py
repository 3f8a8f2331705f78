"""A client of one endpoint, here or at RunPod: submit, follow, cancel."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

HOSTED = "https://api.runpod.ai/v2"
FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
RUN_BODY_LIMIT = 10 * 1024 * 1024
TIMEOUT_S = (10.0, 60.0)
# A status that cannot be had for this long ends the following; RunPod may answer 404 at first.
PATIENCE_S = 30.0
NOT_FOUND_PATIENCE_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0


class ClientError(RuntimeError):
    """The endpoint cannot be reached or refuses; the message says why and what to do."""


def endpoint_url(endpoint: str) -> str:
    """Make a base address of what people write: an endpoint id, `host:port` or a URL."""
    if "://" in endpoint:
        return endpoint.rstrip("/")
    if re.fullmatch(r"[A-Za-z0-9_-]+", endpoint):
        return f"{HOSTED}/{endpoint}"
    return f"http://{endpoint.rstrip('/')}"


class EndpointClient:
    """Speaks the hosted API.

    Args:
        url: The endpoint's base address: `https://api.runpod.ai/v2/ID` or a local one.
        api_key: Sent as a bearer token.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "worker-comfyui-submit"
        # A proxy from the environment cannot reach this machine's own addresses.
        self._session.trust_env = urlsplit(url).hostname not in {"127.0.0.1", "localhost", "::1"}
        if api_key:
            self._session.headers["Authorization"] = f"Bearer {api_key}"

    def submit(self, request: Mapping[str, Any]) -> str:
        """Queue a request.

        A body over the limit of `/run` goes to `/runsync`, which takes 20 MB, without waiting.

        Returns:
            The job's id.

        Raises:
            ClientError: The endpoint refuses it.
        """
        body = json.dumps(request).encode()
        path = "run" if len(body) <= RUN_BODY_LIMIT else "runsync?wait=1000"
        job = self._call("POST", path, body)
        if not isinstance(job.get("id"), str):
            raise ClientError(f"{self.url} gave no job id; is it a queue-based endpoint?")
        return str(job["id"])

    def status(self, job_id: str) -> dict[str, Any]:
        """Get the job as it is now."""
        return self._call("GET", f"status/{job_id}")

    def cancel(self, job_id: str) -> dict[str, Any]:
        """End the job."""
        return self._call("POST", f"cancel/{job_id}")

    def follow(self, job_id: str, on_status: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Ask for the job until it is over.

        Args:
            job_id: The job.
            on_status: Called with each answer.

        Raises:
            ClientError: No answer for a while, or the job is unknown.
        """
        pause = FIRST_PAUSE_S
        answered = time.monotonic()
        while True:
            try:
                job = self.status(job_id)
            except ClientError as error:
                if time.monotonic() > answered + _patience(error):
                    raise
            else:
                answered = time.monotonic()
                on_status(job)
                if job.get("status") in FINAL:
                    return job
            time.sleep(pause)
            pause = min(pause * 1.3, LONGEST_PAUSE_S)

    def _call(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        try:
            response = self._session.request(
                method,
                f"{self.url}/{path}",
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=TIMEOUT_S,
            )
        except requests.ConnectionError:
            hint = "" if self.url.startswith(HOSTED) else " Start it: ./scripts/serve"
            raise ClientError(f"Nothing answers at {self.url}.{hint}") from None
        except requests.RequestException as error:
            raise ClientError(f"{self.url}: {error}") from None
        if response.status_code != 200:
            raise RefusedError(response.status_code, self.url, _detail(response))
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ClientError(f"{self.url} did not answer with JSON; is it an endpoint's address?")
        return content


class RefusedError(ClientError):
    """The endpoint answered with an error; `status` is the HTTP code."""

    def __init__(self, status: int, url: str, detail: str) -> None:
        self.status = status
        hint = " Set RUNPOD_API_KEY or use --api-key." if status == 401 else ""
        super().__init__(f"{url} answered {status}: {detail}{hint}")


def _patience(error: ClientError) -> float:
    """How long an error may last before it counts."""
    if not isinstance(error, RefusedError) or error.status == 429 or error.status >= 500:
        return PATIENCE_S
    return NOT_FOUND_PATIENCE_S if error.status == 404 else 0


def _detail(response: requests.Response) -> str:
    try:
        content = response.json()
    except ValueError:
        return response.reason or "no details"
    detail = content.get("detail") or content.get("error") if isinstance(content, dict) else None
    return str(detail or response.reason)
