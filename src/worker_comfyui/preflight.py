"""Everything that can be known to be wrong before ComfyUI is started, in one go."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from worker_comfyui.comfyui.process import command
from worker_comfyui.config import Settings
from worker_comfyui.errors import ConfigurationError


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Read all settings, and check them also against what they name.

    Raises:
        ConfigurationError: with every problem, each naming its variable.
    """
    settings, problems = Settings.read(environ)
    problems += command.problems(settings)
    problems += _warm_up(settings)
    problems += _catalogue(settings)
    if problems:
        raise ConfigurationError("; ".join(problems))
    return settings


def _warm_up(settings: Settings) -> Iterator[str]:
    if settings.warmup_workflow is None:
        return
    try:
        content = json.loads(settings.warmup_workflow.read_text(encoding="utf-8"))
    except OSError as error:
        yield f"WARMUP_WORKFLOW cannot be used: {error}"
    except (ValueError, RecursionError) as error:
        yield f"WARMUP_WORKFLOW cannot be used: {settings.warmup_workflow} is not JSON: {error}"
    else:
        if not isinstance(content, dict):
            yield f"WARMUP_WORKFLOW cannot be used: {settings.warmup_workflow} has no JSON object"


def _catalogue(settings: Settings) -> Iterator[str]:
    if settings.model_catalog is None:
        return
    # Imported here: most workers have no catalogue.
    from worker_comfyui.models import catalogue  # noqa: PLC0415

    try:
        catalogue.read(settings.model_catalog)
    except ConfigurationError as error:
        yield error.message
