"""Builds a server from the command line, and runs it until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from local_comfyui import COMFYUI_VERSION, arguments, comfy_modules, custom_nodes
from local_comfyui.cache import Cache
from local_comfyui.executor import Executor
from local_comfyui.folders import Folders
from local_comfyui.nodes import core_node_classes
from local_comfyui.nodes.core_node import Comfy
from local_comfyui.progress import Interrupt
from local_comfyui.prompt import NodeClass, Replacements
from local_comfyui.prompt_queue import PromptQueue
from local_comfyui.routes import files, information, prompts
from local_comfyui.server import Server, application
from local_comfyui.websocket import WebSockets

_log = logging.getLogger(__name__)

_RAM_CACHE_SIZE = 1000  # results; ComfyUI looks at the free memory
_DEFAULT_BASE = Path("~/.local/share/local_comfyui")


def run(command_line: Sequence[str]) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit status.

    Raises:
        SystemExit: The command line is wrong (status 2), or asks for help (0).
    """
    options = arguments.parse(command_line)
    _set_up_log(options)
    folders = Folders.from_arguments(options, _DEFAULT_BASE.expanduser())
    folders.create()
    try:
        return asyncio.run(_serve(options, _assemble(options, folders)))
    finally:
        folders.remove_temp()


def _set_up_log(options: Namespace) -> None:
    default = "DEBUG" if options.verbose else "INFO"  # what a bare --verbose and none mean
    level = next(filter(None, options.verbose), [default])[0].upper()
    logging.basicConfig(level=level, format="%(message)s")
    for name in ("aiohttp.access", "libav", "PIL"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _assemble(options: Namespace, folders: Folders) -> Server:
    """Create the parts of a server and connect them."""
    _log.info("local_comfyui follows ComfyUI %s. It runs no models: only", COMFYUI_VERSION)
    _log.info("core nodes that need none, and extra nodes. Base folder: %s", folders.base)
    upload_bytes = round(options.max_upload_size * 1024 * 1024)
    features = {"supports_preview_metadata": True, "max_upload_size": upload_bytes}
    sockets = WebSockets(features)
    interrupt = Interrupt()
    classes: dict[str, NodeClass] = {}
    cache_size = options.cache_lru if options.cache_ram is None else _RAM_CACHE_SIZE
    executor = Executor(classes, Cache(cache_size), sockets, interrupt)
    replacements: Replacements = {}
    comfy_modules.install(folders, interrupt, executor.report, replacements)
    classes |= core_node_classes(Comfy(folders, not options.disable_metadata, executor.report))
    only = set(options.whitelist_custom_nodes) if options.disable_all_custom_nodes else None
    classes |= custom_nodes.load(folders.custom_nodes, only)

    def queue_changed() -> None:
        sockets.send("status", {"status": server.queue_status()}, None)

    server = Server(folders, classes, replacements, features, PromptQueue(queue_changed), executor)
    return server


async def _serve(options: Namespace, server: Server) -> int:
    if options.quick_test_for_ci:
        return 0
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    publishing = asyncio.create_task(server.executor.sockets.publish())
    app = application(server, information.ROUTES, prompts.ROUTES, files.ROUTES)
    runner = web.AppRunner(app, shutdown_timeout=0.5)  # else connections may take a minute
    await runner.setup()
    host = options.listen.split(",")[0]  # ComfyUI listens on all of them
    try:
        await web.TCPSite(runner, host, options.port).start()
    except OSError as error:
        _log.error("Cannot listen on %s:%s: %s", host, options.port, error)
        return 1
    # A daemon: a node that hangs does not keep the process alive. Named as ComfyUI's.
    work = server.executor.work
    threading.Thread(target=work, args=(server.queue,), name="prompt_worker", daemon=True).start()
    _log.info("Starting server\n\nTo see the GUI go to: http://%s:%s", host, options.port)
    await stop.wait()
    _log.info("\nStopped server")
    await server.executor.sockets.close()
    publishing.cancel()
    await runner.cleanup()
    return 0
