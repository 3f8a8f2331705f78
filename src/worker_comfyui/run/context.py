"""What the layers of a job's run hand down to each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from worker_comfyui.comfyui.link import Link, Links
from worker_comfyui.comfyui.supervisor import Supervisor
from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.config import Settings
from worker_comfyui.delivery.bucket import Bucket
from worker_comfyui.job import Job
from worker_comfyui.run.turn import Turns
from worker_comfyui.comfyui.workspace import Workspace
from worker_comfyui.stop import Stop


@dataclass(frozen=True, slots=True)
class Shared:
    """What all jobs of a worker share; ComfyUI itself is for the job that has its turn."""

    settings: Settings
    supervisor: Supervisor
    turns: Turns
    links: Links
    bucket: Bucket | None


@dataclass(frozen=True, slots=True)
class JobContext:
    """One job, when it is to stop, and who hears of its progress."""

    shared: Shared
    job: Job
    stop: Stop
    report: Callable[[Update], None]


@dataclass(frozen=True, slots=True)
class Place:
    """The ComfyUI on which a job runs.

    Attributes:
        link: The connections to it.
        workspace: The job's files there; its inputs are staged.
        contents: Digests of the input files by name.
        ends: Takes what must be done before ComfyUI is another job's.
    """

    link: Link
    workspace: Workspace
    contents: dict[str, str]
    ends: ExitStack
