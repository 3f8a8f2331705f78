"""ComfyUI's events → how far the job is, for the caller. Pure."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from worker_comfyui.comfyui.events import Event, NodesCached, NodeStarted, Progress
from worker_comfyui.job import Workflow, title_of
from worker_comfyui.media.preview import Preview
from worker_comfyui.wording import cut

MAX_TITLE = 80


class Update(TypedDict):
    """What the platform shows as the output of a job in progress.

    Attributes:
        percent: 0 to 99 of the whole workflow, never falling; nodes count alike.
        node_id: The node that is being run.
        node: Its class.
        node_percent: 0 to 100 of that node.
        message: The same in words.
        preview: The newest picture of a sampler, with `output.live`.
        files: The names of the files that are finished, with `output.live`.
    """

    percent: int
    node_id: str
    node: str
    node_percent: int
    message: str
    preview: NotRequired[Preview]
    files: NotRequired[list[str]]


class Tracker:
    """Follows one prompt."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        self._done: dict[str, float] = {}
        self._current: str | None = None
        self._percent = 0

    def update(self, event: Event) -> Update | None:
        """Take an event; return the new state, or None where nothing has changed for the caller."""
        if isinstance(event, NodesCached):
            self._done |= {node: 1.0 for node in event.nodes if node in self._workflow}
            return None
        if isinstance(event, NodeStarted):
            self._current = event.node_id
        elif isinstance(event, Progress):
            self._done |= {k: v for k, v in event.nodes.items() if k in self._workflow}
        else:
            return None
        return self._state()

    def _state(self) -> Update | None:
        node = self._workflow.get(self._current or "")
        if self._current is None or node is None:
            return None
        # 100 is for COMPLETED: the files are delivered after this.
        percent = min(99, int(100 * sum(self._done.values()) / len(self._workflow)))
        # A node may begin its progress anew, as samplers with several passes do.
        self._percent = max(self._percent, percent)
        name = cut(node["class_type"], MAX_TITLE)
        return {
            "percent": self._percent,
            "node_id": cut(self._current, MAX_TITLE),
            "node": name,
            "node_percent": int(100 * self._done.get(self._current, 0)),
            "message": f"{self._percent} %: running {cut(title_of(node) or name, MAX_TITLE)}",
        }
