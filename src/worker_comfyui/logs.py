"""The worker's log: one JSON object a line in production, readable text on a terminal."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TextIO

from worker_comfyui.config import Settings
from worker_comfyui.redaction import Redactor
from worker_comfyui.strict import clean
from worker_comfyui.wording import shortened

_fields: ContextVar[dict[str, str] | None] = ContextVar("log_fields", default=None)
MARGIN = len("12:34:56 WARNING ")
LATE_S = 0.5
"""What was printed in a block may be read a moment after it."""
MAX_MESSAGE = 20_000
"""Characters of one message. ComfyUI and its nodes may print anything, whole images too."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "context"}


@dataclass(slots=True)
class _Lent:
    """Fields for another thread's lines, and until when, of `time.monotonic()`."""

    fields: dict[str, str]
    until: float = math.inf


_lent: dict[str, _Lent] = {}


@contextmanager
def fields(**values: str) -> Iterator[None]:
    """Put these fields (`job_id`, `prompt_id`) on every line that is logged in the block."""
    token = _fields.set({**(_fields.get() or {}), **values})
    try:
        yield
    finally:
        _fields.reset(token)


@contextmanager
def lent_fields(logger: str) -> Iterator[None]:
    """Put the fields of this block also on what another thread logs under this name meanwhile.

    Where blocks overlap, those of the one that began last.
    """
    lent = _lent[logger] = _Lent(_fields.get() or {})
    try:
        yield
    finally:
        lent.until = time.monotonic() + LATE_S


def configure(settings: Settings, redactor: Redactor, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (standard error), masked, in the format of LOG_FORMAT.

    Called again after the SDK's import, which configures logging for itself.
    """
    stream = stream or sys.stderr
    text = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter(redactor) if text else JsonFormatter(redactor))
    handler.addFilter(_add_context)
    root = logging.getLogger()
    # The SDK's utils/rp_upload.py calls `basicConfig`: its lines would come twice, and unmasked.
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("worker_comfyui").setLevel(settings.log_level)
    logging.getLogger("runpod").setLevel(settings.log_level)
    # It logs what a server sent, whole.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # ComfyUI's own lines come at the level that ComfyUI was started with.
    logging.getLogger("comfyui").setLevel(logging.DEBUG)


def trace_websockets() -> None:
    """Log every websocket frame, as websocket-client writes it (WEBSOCKET_TRACE)."""
    import websocket  # noqa: PLC0415  # logging is set up before ComfyUI starts: it must be quick

    # Its own handler would print past the masking; without one, the lines come here.
    websocket.enableTrace(True, handler=logging.NullHandler())


def _add_context(record: logging.LogRecord) -> bool:
    # A record may come from another thread than the one that is to print it.
    record.context = _fields.get() or _lent_to(record.name)
    return True


def _lent_to(logger: str) -> dict[str, str]:
    lent = _lent.get(logger)
    return dict(lent.fields) if lent and time.monotonic() < lent.until else {}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _source(record: logging.LogRecord) -> str:
    top = record.name.partition(".")[0]
    return top if top in {"comfyui", "runpod"} else "worker"


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "source", "message", "job_id"?, "prompt_id"?, "event"?, ...}`."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Make one line; times are UTC with milliseconds."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname,
            "source": _source(record),
            # Masked before it is cut: half a secret could not be found any more.
            "message": shortened(self._redactor.text(record.getMessage()), MAX_MESSAGE),
            **getattr(record, "context", {}),
            **_extra(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(clean(self._redactor.value(line)), allow_nan=False)


class TextFormatter(logging.Formatter):
    """`12:34:56 INFO  message`; ComfyUI's own lines are marked with a bar."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Make one line, or several where the message has several."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        mark = "│ " if record.name == "comfyui" else ""
        message = shortened(self._redactor.text(record.getMessage()), MAX_MESSAGE)
        if mark:  # on each line of a traceback
            message = message.replace("\n", f"\n{' ' * MARGIN}{mark}")
        text = f"{clock} {record.levelname:<7} {mark}{message}"
        job_id = getattr(record, "context", {}).get("job_id") or vars(record).get("job_id")
        if job_id:
            text += f"  [{job_id}]"
        for detail in vars(record).get("details", ()):  # of a failed job
            text += f"\n{' ' * MARGIN}- {detail}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return self._redactor.text(text)
