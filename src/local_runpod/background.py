"""A platform in a thread of its own, for callers that are not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from local_runpod.server import Platform, PlatformSettings

Result = TypeVar("Result")


class BackgroundPlatform:
    """A platform that runs in another thread; made by `running_platform`."""

    def __init__(self, platform: Platform, loop: asyncio.AbstractEventLoop) -> None:
        self.platform = platform
        self._loop = loop

    @property
    def url(self) -> str:
        """The gateway's base address."""
        return self.platform.url

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something of the platform in its own thread."""

        async def run() -> Result:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def until_ready(self, starts: int = 1) -> None:
        """Wait until a worker asks for jobs.

        Raises:
            StartError: Workers ended that many times without becoming ready.
        """
        future = asyncio.run_coroutine_threadsafe(self.platform.until_ready(starts), self._loop)
        try:
            future.result()
        except BaseException:
            future.cancel()
            raise


@contextmanager
def running_platform(settings: PlatformSettings) -> Iterator[BackgroundPlatform]:
    """Run a platform until the context ends; then nothing is left.

    Raises:
        StartError: The port is taken.
    """
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    platform = Platform(settings)
    failure: list[BaseException] = []

    async def run() -> None:
        async with platform.running():
            started.set()
            await stop.wait()

    def thread_main() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(run())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failure.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=thread_main, name="local_runpod")
    thread.start()
    try:
        started.wait()  # set also where the start failed
        if not failure:
            yield BackgroundPlatform(platform, loop)
    finally:
        if thread.is_alive() and not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failure:
        raise failure[0]
