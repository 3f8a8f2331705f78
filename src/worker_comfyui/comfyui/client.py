"""HTTP client of one ComfyUI server. It knows the protocol, and no policy.

Routes and their answers: ComfyUI 0.3.64 server.py, and later versions where they differ.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from urllib3.filepost import encode_multipart_formdata

from worker_comfyui.comfyui.connection import Connection, chunks
from worker_comfyui.errors import ComfyUnavailable
from worker_comfyui.hosts import connections

MAX_ANSWER_BYTES = 64 << 20
SOON_S = 5.0
"""For what ComfyUI answers at once."""
CLOSE_S = 1.0
_QUEUES = ("queue_running", "queue_pending")
MAX_RECENT = 20
"""Prompts of one job that can end before the worker looks for them."""


class PromptRefused(Exception):
    """POST /prompt did not answer 200. `answer` is its JSON body, or {} where it had none."""

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.answer = answer


class BadAnswer(ComfyUnavailable):
    """ComfyUI answered, but with an error, or with something that is not what was asked for."""


class FileMissing(Exception):
    """/view does not give the file; the text says how it answered."""


class ComfyClient:
    """Speaks to the ComfyUI at `host:port`, of one thing at a time, with whichever thread.

    Every method raises ComfyUnavailable when there is no answer, or one that makes no sense.
    """

    def __init__(self, address: str, *, timeout_s: float = 30.0) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._connection = Connection(address)
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, once ComfyUI has done what it was told, or says nothing."""
        with self._lock:
            self._connection.settle(CLOSE_S)
            self._connection.close()

    def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Tell whether the server answers; it listens only once its nodes are loaded."""
        try:
            return self._ask("GET", "/prompt", timeout_s=timeout_s)[0] == 200
        except ComfyUnavailable:
            return False

    def system_stats(self) -> dict[str, Any]:
        """GET /system_stats: versions and devices."""
        return self._json("GET", "/system_stats")

    def upload(self, name: str, path: Path) -> str:
        """Put a file into the input folder, over one of that name; return the name it got."""
        subfolder, _, filename = name.rpartition("/")
        body, content_type = encode_multipart_formdata(
            {
                "image": (filename, path.read_bytes(), "application/octet-stream"),
                # Else it is stored under another name where one is there (server.py, image_upload).
                "overwrite": "true",
                "subfolder": subfolder,
                "type": "input",
            }
        )
        headers = {"Content-Type": content_type}
        answer = self._json("POST", "/upload/image", body=body, headers=headers)
        stored, folder = answer.get("name"), answer.get("subfolder")
        if not isinstance(stored, str):
            raise BadAnswer("ComfyUI answered POST /upload/image without a name")
        return f"{folder}/{stored}" if folder else stored

    def queue_prompt(
        self,
        workflow: dict[str, Any],
        *,
        prompt_id: str,
        client_id: str,
        extra_data: dict[str, Any],
    ) -> dict[str, Any]:
        """Queue a workflow; return the `node_errors` of outputs that were left out.

        Raises:
            PromptRefused: it does not run.
        """
        body = {
            "prompt": workflow,
            "prompt_id": prompt_id,
            "client_id": client_id,
            "extra_data": extra_data,
        }
        status, content = self._ask("POST", "/prompt", **_as_json(body))
        if status != 200:
            raise PromptRefused(status, _refusal(content))
        answer = _object(content)
        if answer.get("prompt_id") != prompt_id:
            other = str(answer.get("prompt_id"))[:100]
            raise BadAnswer(f"ComfyUI queued the prompt under another id: {other}")
        errors = answer.get("node_errors")
        return errors if isinstance(errors, dict) else {}

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """Return the prompt's history entry; None while it waits or runs, or if it is unknown."""
        entry = self._json("GET", _history(prompt_id)).get(prompt_id)
        return entry if isinstance(entry, dict) else None

    def ask_history(self, prompt_id: str) -> None:
        """Ask for it ahead: `history` returns the answer to this, if nothing comes between."""
        self._send("GET", _history(prompt_id))

    def is_queued(self, prompt_id: str) -> bool:
        """Tell whether the prompt waits or runs."""
        return any(queued == prompt_id for queued, _ in self._queued())

    def known_under(self, client_id: str) -> list[str]:
        """Return the prompts that tell the websocket of this id: the newest ended, then the rest.

        In this order: a prompt that ends between the two questions is in both answers.
        """
        queued = self._queued()
        answer = self._json("GET", f"/history?max_items={MAX_RECENT}")
        items = [entry.get("prompt") for entry in answer.values() if isinstance(entry, dict)]
        ended = [_name_and_told(item) for item in items if isinstance(item, list) and len(item) > 1]
        return list(dict.fromkeys(name for name, told in ended + queued if told == client_id))

    def queued_under(self, client_id: str) -> list[str]:
        """Return the prompts that run or wait and tell the websocket of this id, in order."""
        return [queued for queued, told in self._queued() if told == client_id]

    def _queued(self) -> list[tuple[Any, Any]]:
        """Return id and `client_id` of each prompt that runs or waits.

        An item is number, id, prompt, `extra_data` and more (execution.py, `PromptQueue`).
        """
        queue = self._json("GET", "/queue")
        try:
            # By number: it is given as it lies in ComfyUI's heap.
            items = [item for state in _QUEUES for item in sorted(queue[state], key=itemgetter(0))]
            return [_name_and_told(item) for item in items]
        except (LookupError, TypeError) as error:
            raise BadAnswer("ComfyUI answered GET /queue with no queue") from error

    def cancel(self, prompt_id: str) -> None:
        """Take the prompt from the queue, or interrupt it if it runs; touch no other prompt."""
        # In this order: a prompt that begins to run between the two is interrupted.
        self._ask("POST", "/queue", **_as_json({"delete": [prompt_id]}))
        self._ask("POST", "/interrupt", **_as_json({"prompt_id": prompt_id}))

    def forget(self, prompt_ids: list[str]) -> None:
        """Remove the prompts' history entries: this client asks nothing else before it is done."""
        self._send("POST", "/history", **_as_json({"delete": prompt_ids}))

    def node_class(self, class_type: str) -> dict[str, Any] | None:
        """Return what a node class takes (an entry of /object_info), or None if there is none.

        A name may be anything that a caller sends: what cannot be asked for is none.
        """
        try:
            entry = self._json("GET", f"/object_info/{_quoted(class_type)}")
        except BadAnswer:
            return None
        found = entry.get(class_type)
        return found if isinstance(found, dict) else None

    def object_info(self) -> dict[str, Any]:
        """Return the description of all node classes. Slow: ComfyUI lists all model folders."""
        answer = self._json("GET", "/object_info")
        return {name: entry for name, entry in answer.items() if isinstance(entry, dict)}

    def node_replacements(self) -> dict[str, Any]:
        """Return what stands for old names of node classes; {} before ComfyUI has the route."""
        try:
            return self._json("GET", "/node_replacements")
        except BadAnswer:
            return {}

    def model_folders(self) -> list[str]:
        """Return the kinds of models that it knows."""
        return self._list("/models")

    def models(self, folder: str) -> list[str]:
        """Return the models of a kind; none for a kind that it does not know."""
        try:
            return self._list(f"/models/{_quoted(folder)}")
        except BadAnswer:
            return []

    def _list(self, path: str) -> list[str]:
        status, content = self._ask("GET", path)
        answer = None
        if status == 200 and content is not None:
            with suppress(ValueError, RecursionError):
                answer = json.loads(content)
        if not isinstance(answer, list):
            raise BadAnswer(f"ComfyUI answered GET {path} with {status} and no list")
        return [name for name in answer if isinstance(name, str)]

    def download(self, *, filename: str, subfolder: str, folder_type: str, to: Path) -> int:
        """Write a file of ComfyUI's to `to`; return its size in bytes.

        Raises:
            FileMissing: it is not there, or ComfyUI refuses to give it.
            ComfyUnavailable: it came only in part.
        """
        query = urlencode({"filename": filename, "subfolder": subfolder, "type": folder_type})
        with self._request("GET", f"/view?{query}") as response:
            if response.status != 200:
                raise FileMissing(f"HTTP {response.status}")
            size = 0
            with to.open("wb") as file:
                for chunk in _chunks(response, filename):
                    size += file.write(chunk)
        return size

    def _json(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        status, content = self._ask(method, path, **arguments)
        if status != 200:
            raise BadAnswer(f"ComfyUI answered {method} {path} with {status}")
        if content is None:
            raise BadAnswer(f"ComfyUI answered {method} {path} with more than {MAX_ANSWER_BYTES} B")
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BadAnswer(f"ComfyUI answered {method} {path} with bad JSON: {error}") from error
        if not isinstance(answer, dict):
            raise BadAnswer(f"ComfyUI answered {method} {path} with no JSON object")
        return answer

    def _ask(self, method: str, path: str, **arguments: Any) -> tuple[int, bytes | None]:
        """Return status and body; None for a body that would fill the memory."""
        with self._request(method, path, **arguments) as response:
            content = bytearray()
            for piece in _chunks(response, f"the answer to {method} {path}"):
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    return response.status, None
            return response.status, bytes(content)

    def _send(self, method: str, path: str, **arguments: Any) -> None:
        with self._lock, _failures(f"{method} {path}"):
            timeout_s = min(SOON_S, self._timeout_s)
            self._connection.send(method, path, timeout_s=timeout_s, **arguments)

    @contextmanager
    def _request(
        self, method: str, path: str, *, timeout_s: float | None = None, **arguments: Any
    ) -> Iterator[HTTPResponse]:
        """Send a request; what is not read of its answer is given up, with the connection."""
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        with self._lock, ExitStack() as stack:
            with _failures(f"{method} {path}"):
                asked = self._connection.request(method, path, timeout_s=timeout_s, **arguments)
                response = stack.enter_context(asked)
            yield response


def _history(prompt_id: str) -> str:
    return f"/history/{_quoted(prompt_id)}"


def _quoted(name: str) -> str:
    """Make a part of a path of what may be anything: callers and nodes choose names and ids."""
    return quote(name, safe="", errors="replace")


def _as_json(body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    return {"body": json.dumps(body).encode(), "headers": headers}


@contextmanager
def _failures(request: str) -> Iterator[None]:
    try:
        yield
    except connections.FAILURES as error:
        reason = connections.innermost(error)
        raise ComfyUnavailable(f"ComfyUI did not answer {request}: {reason}") from error


def _chunks(response: HTTPResponse, what: str) -> Iterator[bytes]:
    try:
        yield from chunks(response)
    except connections.FAILURES as error:
        raise ComfyUnavailable(
            f"{what} came only in part: {connections.innermost(error)}"
        ) from error


def _name_and_told(item: Any) -> tuple[Any, Any]:
    """Return the id of a prompt, and that of the websocket that hears of it, if any."""
    extra_data = item[3] if len(item) > 3 else None
    return item[1], extra_data.get("client_id") if isinstance(extra_data, dict) else None


def _refusal(content: bytes | None) -> dict[str, Any]:
    if content is not None:
        return _object(content)
    # ComfyUI lists for each invalid node every output that cannot run: the square of their number.
    return {"error": {"message": "The workflow has far too many invalid nodes to list them."}}


def _object(content: bytes | None) -> dict[str, Any]:
    """Read a JSON object; {} for anything else. ComfyUI writes NaN into history, which is taken."""
    try:
        answer = json.loads(content or b"")
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
