"""WARMUP_WORKFLOW: a file with a workflow of any kind, or a whole request → a job's `input`."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from worker_comfyui.errors import ConfigurationError


def read(path: Path) -> dict[str, Any]:
    """Read the file.

    Raises:
        ConfigurationError: it cannot be read, or is no workflow's file.
    """
    try:
        data = path.read_bytes()
        sent = json.loads(data)
    except OSError as error:
        raise ConfigurationError(f"WARMUP_WORKFLOW cannot be used: {error}") from error
    except UnicodeDecodeError:  # no text: a picture or film, which may have a workflow in it
        return {"workflow": f"data:application/octet-stream;base64,{b64encode(data).decode()}"}
    except (ValueError, RecursionError) as error:
        message = f"WARMUP_WORKFLOW cannot be used: {path} is not JSON: {error}"
        raise ConfigurationError(message) from error
    if not isinstance(sent, dict):
        raise ConfigurationError(f"WARMUP_WORKFLOW cannot be used: {path} has no JSON object")
    if isinstance(sent.get("input"), dict):
        sent = sent["input"]
    return sent if "workflow" in sent else {"workflow": sent}
