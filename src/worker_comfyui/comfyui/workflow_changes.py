"""Changes that the worker makes to a workflow before it runs. Pure: the original stays as it is."""

from __future__ import annotations

from collections.abc import Iterable
from posixpath import normpath

from worker_comfyui.job import Workflow

PREFIX_INPUT = "filename_prefix"
"""The input by which ComfyUI's own nodes and most custom ones name their output files."""
DEFAULT_PREFIX = "ComfyUI"
"""ComfyUI's own; it stands in for an empty one, which would name the files after the folder."""
MARK_INPUT = "worker_comfyui_run"


def with_output_folder(workflow: Workflow, folder: str) -> Workflow:
    """Let every node with a textual `filename_prefix` save under `folder`.

    So names start at 1 in every job, two jobs never meet, and a repeated workflow saves its files
    again instead of naming cached ones. A prefix that leaves the output folder stays as it is:
    ComfyUI refuses it.
    """
    changed = dict(workflow)
    for node_id, node in workflow.items():
        prefix = node["inputs"].get(PREFIX_INPUT)
        if isinstance(prefix, str) and _stays_inside(prefix):
            changed[node_id] = {
                **node,
                "inputs": {**node["inputs"], PREFIX_INPUT: f"{folder}/{_named(prefix)}"},
            }
    return changed


def not_from_cache(workflow: Workflow, node_ids: Iterable[str], mark: str) -> Workflow:
    """Let these nodes run again, although ComfyUI still has their results.

    An input that a node does not know is part of its cache key, and has no other effect
    (ComfyUI 0.3.64 comfy_execution/caching.py, execution.py `get_input_data`).
    """
    again = {
        node_id: {**workflow[node_id], "inputs": {**workflow[node_id]["inputs"], MARK_INPUT: mark}}
        for node_id in node_ids
        if node_id in workflow
    }
    return {**workflow, **again}


def _named(prefix: str) -> str:
    return DEFAULT_PREFIX if normpath(prefix) == "." else prefix


def _stays_inside(prefix: str) -> bool:
    return not prefix.startswith(("/", "\\")) and ".." not in prefix.replace("\\", "/").split("/")
