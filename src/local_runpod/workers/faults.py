"""Faults that tests inject into the platform's side of the workers' protocol.

```
faults.add("job-done", status=500, times=2)     refuse twice, without looking at the result
faults.add("job-done", drop="after")            take the result, then drop the connection
faults.add("job-take", delay_s=3)
```
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from local_runpod.web.problems import ProblemError
from local_runpod.web.routing import Handler


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of an operation; `hits` counts them.

    Args:
        operation: `job-take`, `job-done`, `ping`, ...
        status: Answer with this code in place of the operation.
        drop: Close the connection without an answer, before or after the operation is done.
        delay_s: Wait first.
        times: How often.
    """

    operation: str
    status: int | None = None
    drop: Literal["before", "after"] | None = None
    delay_s: float = 0.0
    times: int = 1
    hits: int = 0


class Faults:
    """The faults to come; empty in normal operation."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(
        self,
        operation: str,
        *,
        status: int | None = None,
        drop: Literal["before", "after"] | None = None,
        delay_s: float = 0.0,
        times: int = 1,
    ) -> Fault:
        """Plan a fault; may be called from any thread."""
        fault = Fault(operation, status, drop, delay_s, times)
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget what has not happened yet."""
        self._faults.clear()

    async def around(
        self, operation: str, request: web.Request, handler: Handler, *arguments: str
    ) -> web.StreamResponse:
        """Run an operation with the first fault that is planned for it."""
        fault = next(
            (f for f in self._faults if f.operation == operation and f.hits < f.times), None
        )
        if fault is None:
            return await handler(request, *arguments)
        fault.hits += 1
        await asyncio.sleep(fault.delay_s)
        if fault.drop == "before":
            _drop(request)
        if fault.status is not None:
            raise ProblemError(fault.status, "injected fault")
        response = await handler(request, *arguments)
        if fault.drop == "after":
            _drop(request)
        return response


def _drop(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("injected fault")
