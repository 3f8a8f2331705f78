"""What the routes work with: the parts of one running server."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from local_comfyui.arguments import Arguments
from local_comfyui.executor import Executor
from local_comfyui.folders import Folders
from local_comfyui.interrupt import Interrupt
from local_comfyui.log import LogBuffer
from local_comfyui.prompt import Json, NodeClasses
from local_comfyui.prompt_queue import PromptQueue
from local_comfyui.websocket import WebSockets


@dataclass
class Server:
    """One server's parts."""

    arguments: Arguments
    folders: Folders
    classes: NodeClasses
    display_names: dict[str, str]
    features: Json
    queue: PromptQueue
    executor: Executor
    interrupt: Interrupt
    sockets: WebSockets
    log: LogBuffer
    next_number: float = 0

    def queue_status(self) -> Json:
        """The content of a ``status`` frame and of ``GET /prompt``."""
        return {"exec_info": {"queue_remaining": self.queue.remaining()}}

    def running_node(self, client_id: str) -> str | None:
        """The node that runs now, if the running prompt is this client's."""
        running = self.executor.running
        return running.node_id if running.client_id == client_id else None


SERVER = web.AppKey("server", Server)
