"""A worker on the real SDK that does what its input says; with GENERATOR set, it streams.

`{"sleep": s, "progress": [...], "cleanup": path, "kill": n, "result": anything, "raise": text}`
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")

with suppress(ImportError):  # the SDK asks as it is imported, which takes more than a second
    import cpuinfo

    cpuinfo.get_cpu_info = lambda: {"brand_raw": ""}

import runpod
from runpod.http_client import AsyncClientSession
from runpod.serverless.modules.rp_http import send_result


async def handler(job: dict[str, Any]) -> Any:
    """Do what the input says."""
    plan = job["input"]
    for progress in plan.get("progress", []):
        async with AsyncClientSession() as session:
            await send_result(session, {"status": "IN_PROGRESS", "output": progress}, job)
    try:
        await asyncio.sleep(plan.get("sleep", 0))
    except asyncio.CancelledError:
        if "cleanup" in plan:
            _write(plan["cleanup"], "stopped")
        raise
    if "kill" in plan and _once_more(plan["counter"], plan["kill"]):
        os.kill(os.getpid(), signal.SIGKILL)
    if "raise" in plan:
        raise RuntimeError(plan["raise"])
    if "bytes" in plan:
        return "x" * plan["bytes"]
    if plan.get("nan"):
        return {"value": float("nan")}
    if plan.get("whole_job"):
        return job
    return plan.get("result", {"echo": plan})


async def generator(job: dict[str, Any]) -> AsyncIterator[Any]:
    """Yield the input's `chunks`, a moment between two."""
    for chunk in job["input"]["chunks"]:
        yield chunk
        await asyncio.sleep(job["input"].get("gap", 0))


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


def _once_more(counter: str, times: int) -> bool:
    path = Path(counter)
    done = len(path.read_text()) if path.exists() else 0
    path.write_text("x" * (done + 1))
    return done < times


if __name__ == "__main__":
    if os.environ.get("FAIL_AT_START"):
        sys.exit("no GPU here")
    streaming = bool(os.environ.get("GENERATOR"))
    limit = int(os.environ.get("CONCURRENCY", "1"))
    runpod.serverless.start(
        {
            "handler": generator if streaming else handler,
            "concurrency_modifier": lambda _current: limit,
            "refresh_worker": bool(os.environ.get("REFRESH")),
        }
    )
