"""What the layers of a job's run hand down to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from worker_comfyui.comfyui.link import Link, Links
from worker_comfyui.comfyui.node_problems import Lookup
from worker_comfyui.comfyui.object_info import ObjectInfo
from worker_comfyui.comfyui.process.command import models_folder
from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.comfyui.workspace import Workspace
from worker_comfyui.config import Settings
from worker_comfyui.delivery.bucket import Bucket
from worker_comfyui.job import Job, Workflow
from worker_comfyui.models.service import Models
from worker_comfyui.request import inputs
from worker_comfyui.run.turn import Turn, Turns
from worker_comfyui.stop import Stop
from worker_comfyui.workflows.api_format import is_api_format


@dataclass(frozen=True, slots=True)
class Shared:
    """What all jobs of a worker share; ComfyUI itself is for the job that has its turn."""

    settings: Settings
    supervisor: Supervisor
    turns: Turns
    links: Links
    object_info: ObjectInfo
    models: Models
    bucket: Bucket | None

    @classmethod
    def of(cls, settings: Settings, supervisor: Supervisor) -> Self:
        """Make it while ComfyUI starts: what takes time for the first job is done here.

        Raises:
            ConfigurationError: MODEL_CATALOG cannot be used.
        """
        inputs.prepare()
        bucket = Bucket.from_settings(settings)
        if bucket:
            bucket.prepare()
        patience_s = settings.comfy_hang_timeout_s
        own_models = None
        if settings.comfy_host is None:
            own_models = models_folder(settings.comfyui_path, settings.comfyui_args)
        return cls(
            settings,
            supervisor,
            Turns(),
            Links(patience_s=patience_s),
            ObjectInfo(patience_s=patience_s),
            Models(settings, own_models=own_models),
            bucket,
        )

    def preload(self, warm_up: Any) -> None:
        """Begin to read PRELOAD_MODELS into memory, and the models of the warm-up's workflow."""
        # Any other form becomes a workflow with ComfyUI's help alone, which is starting still.
        known = warm_up if is_api_format(warm_up) else {}
        self.models.preload({key: node for key, node in known.items() if isinstance(node, dict)})

    def close(self) -> None:
        """Close the connections to ComfyUI, and remove what is this worker's alone."""
        self.links.close()
        self.models.close()


@dataclass(frozen=True, slots=True)
class JobContext:
    """One job, when it is to stop, and who hears of its progress."""

    shared: Shared
    job: Job
    stop: Stop
    report: Callable[[Update], None]

    def say(self, message: str, percent: int = 0) -> None:
        """Report what is done before a workflow runs, and how far that is."""
        self.report(
            {
                "percent": 0,
                "node_id": "",
                "node": "",
                "node_percent": percent,
                "message": message,
            }
        )


@dataclass(frozen=True, slots=True)
class Place:
    """The ComfyUI on which a job runs.

    Attributes:
        link: The connections to it.
        workspace: The job's files there; its inputs are staged.
        workflow: What runs, with the node classes that this ComfyUI has.
        contents: Digests of the input files by name.
        lookup: What messages about the workflow are made with.
        turn: Until when it is this job's alone.
        look: Notes what ComfyUI printed, and what state it is in: the turn's end need not then.
    """

    link: Link
    workspace: Workspace
    workflow: Workflow
    contents: dict[str, str]
    lookup: Lookup
    turn: Turn
    look: Callable[[], None]
