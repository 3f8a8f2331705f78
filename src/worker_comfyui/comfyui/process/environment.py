"""Which of the worker's environment variables ComfyUI gets. Pure.

Custom nodes are other people's code: what the worker itself signs in with is not for them. All
else is passed on: an operator who sets OPENAI_API_KEY means a node.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from worker_comfyui.config import secret_variables

WITHHELD = (
    "RUNPOD_*",  # the platform's: its key, and the addresses where jobs are taken and posted
    "AWS_*KEY*",
    "AWS_*TOKEN*",
    "AWS_*CREDENTIALS*",
    "BUCKET_*",
    "HF_TOKEN",
    "HF_API_TOKEN",
    "HUGGING_FACE_*TOKEN",
    "HUGGINGFACE_*TOKEN",
    "HUGGINGFACE_TOKEN",
    "HUGGINGFACE_API_KEY",
    "CIVITAI_*TOKEN",
    "CIVITAI_*KEY",
    "GH_TOKEN",
    "GITHUB_TOKEN",
)
"""Patterns of names."""


def for_comfyui(environ: Mapping[str, str], allowed: Collection[str]) -> dict[str, str]:
    """Make ComfyUI's environment.

    Args:
        environ: The worker's own.
        allowed: Names that are passed on all the same (COMFY_ENV_PASS).
    """
    left_out = withheld(environ, allowed)
    passed = {name: value for name, value in environ.items() if name not in left_out}
    # For the Python programs that a node starts; ComfyUI itself needs more: see bootstrap.py.
    return {**passed, "PYTHONUNBUFFERED": "1"}


def withheld(environ: Mapping[str, str], allowed: Collection[str]) -> set[str]:
    """Name the variables that ComfyUI does not get."""
    own = set(secret_variables())
    return {
        name
        for name in environ
        if name not in allowed
        and (name in own or any(fnmatchcase(name.upper(), pattern) for pattern in WITHHELD))
    }
