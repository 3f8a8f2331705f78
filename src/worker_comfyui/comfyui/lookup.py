"""What messages about a refused workflow are made with."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from worker_comfyui.comfyui.client import ComfyClient
from worker_comfyui.comfyui.node_problems import Lookup
from worker_comfyui.config import Settings
from worker_comfyui.errors import Detail
from worker_comfyui.job import Workflow
from worker_comfyui.volume.missing_models import MissingModels


def lookup(
    client: ComfyClient,
    workflow: Workflow,
    sent: Collection[str],
    settings: Settings,
    advice: Mapping[str, str] | None = None,
) -> Lookup:
    """Return where to look things up about a workflow.

    Args:
        client: The ComfyUI that refused it.
        workflow: As it runs.
        sent: Names of the input files that came with it.
        settings: Where models lie.
        advice: What to do about models that are missing, by name.
    """
    models = MissingModels(settings)

    def locate(detail: Detail) -> Detail:
        located = models.locate(detail)
        said = (advice or {}).get(str(detail.get("received")))
        return {**located, "message": f"{located['message']}; {said}"} if said else located

    return Lookup(workflow, client.node_class, client.object_info, list(sent), locate)
