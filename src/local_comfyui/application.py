"""Builds a server from the command line, and runs it until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from local_comfyui import (
    COMFYUI_VERSION,
    arguments,
    comfy_stand_ins,
    custom_nodes,
    execution_worker,
    log,
)
from local_comfyui.arguments import Arguments
from local_comfyui.cache import Cache
from local_comfyui.executor import Executor
from local_comfyui.folders import Folders
from local_comfyui.interrupt import Interrupt
from local_comfyui.nodes import core_node_classes
from local_comfyui.nodes.core_node import NodeContext
from local_comfyui.prompt_queue import PromptQueue
from local_comfyui.server import application
from local_comfyui.state import Server
from local_comfyui.websocket import WebSockets

_log = logging.getLogger(__name__)

_DEFAULT_BASE = Path("~/.local/share/local_comfyui")


def run(command_line: Sequence[str]) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit status.

    Raises:
        SystemExit: The command line is wrong (status 2), or asks for help (0).
    """
    options = arguments.parse(command_line)
    buffer = log.set_up(options.log_level, to_stdout=options.log_stdout)
    folders = Folders.from_arguments(options, _DEFAULT_BASE.expanduser())
    folders.create()
    try:
        return asyncio.run(_serve(_assemble(options, folders, buffer)))
    finally:
        folders.remove_temp()


def _assemble(options: Arguments, folders: Folders, buffer: log.LogBuffer) -> Server:
    """Create the parts of a server and connect them."""
    _log.info("local_comfyui: follows ComfyUI %s. It runs no models:", COMFYUI_VERSION)
    _log.info("only the core nodes that need none, and extra nodes. Base folder: %s", folders.base)
    features = {"supports_preview_metadata": True, "max_upload_size": options.max_upload_bytes}
    sockets = WebSockets(features)
    interrupt = Interrupt()
    classes = core_node_classes(NodeContext(folders, not options.disable_metadata))
    executor = Executor(
        classes, Cache(options.cache_policy, options.cache_size), sockets, interrupt
    )
    comfy_stand_ins.install(folders, interrupt, lambda: executor.running.progress)
    extra = _extra_nodes(options, folders)
    classes.update(extra.classes)
    server: Server

    def queue_changed() -> None:
        sockets.send("status", {"status": server.queue_status()}, None)

    server = Server(
        arguments=options,
        folders=folders,
        classes=classes,
        display_names=extra.display_names,
        features=features,
        queue=PromptQueue(queue_changed),
        executor=executor,
        interrupt=interrupt,
        sockets=sockets,
        log=buffer,
    )
    return server


def _extra_nodes(options: Arguments, folders: Folders) -> custom_nodes.ExtraNodes:
    only = set(options.whitelist_custom_nodes) if options.disable_all_custom_nodes else None
    return custom_nodes.load(folders.custom_nodes, only)


async def _serve(server: Server) -> int:
    options = server.arguments
    if options.quick_test:
        return 0
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    publishing = asyncio.create_task(server.sockets.publish())
    runner = web.AppRunner(application(server), shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.listen, options.port).start()
    except OSError as error:
        _log.error("Cannot listen on %s:%s: %s", options.listen, options.port, error)
        return 1
    execution_worker.start(server.queue, server.executor, server.sockets)
    if options.print_server:
        _log.info("Starting server\n")
        _log.info("To see the GUI go to: http://%s:%s", options.listen, options.port)
    await stop.wait()
    _log.info("\nStopped server")
    await server.sockets.close()
    publishing.cancel()
    await runner.cleanup()
    return 0
