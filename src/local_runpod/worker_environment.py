"""The environment of a local worker: which ComfyUI it gets, and what it must not inherit."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

LOOPBACK_HOSTS = "127.0.0.1,localhost,::1"
NOT_INHERITED = ("SERVE_API_LOCALLY", "RUNPOD_API_KEY", "PYTHONPATH")


def describe_comfyui(inherited: Mapping[str, str]) -> str:
    """Say which ComfyUI the workers will use."""
    if host := inherited.get("COMFY_HOST"):
        return f"the one at {host} (COMFY_HOST)"
    if path := inherited.get("COMFYUI_PATH"):
        return f"{path} (COMFYUI_PATH)"
    return "local_comfyui: no models, no GPU (set COMFYUI_PATH or COMFY_HOST for a real one)"


def worker_environment(
    root: Path, inherited: Mapping[str, str]
) -> Callable[[Path], dict[str, str]]:
    """Make the function that gives each worker its environment.

    Args:
        root: The project's folder.
        inherited: The caller's environment; its COMFYUI_PATH or COMFY_HOST is respected, else each
            worker starts a `local_comfyui` of its own, with its files in the worker's folder.
    """
    shared = {name: value for name, value in inherited.items() if name not in NOT_INHERITED}
    shared["PYTHONUNBUFFERED"] = "1"
    # The SDK's checks at start are about RunPod's machines: free disk, a public DNS server, CUDA.
    shared.setdefault("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true")
    if not shutil.which("nvidia-smi", path=inherited.get("PATH")):
        shared.setdefault("RUNPOD_SKIP_GPU_CHECK", "true")
    for name in ("NO_PROXY", "no_proxy"):
        shared[name] = ",".join(filter(None, (inherited.get(name), LOOPBACK_HOSTS)))

    def environment(folder: Path) -> dict[str, str]:
        own = {**shared, "TMPDIR": str(folder)}
        if not (inherited.get("COMFYUI_PATH") or inherited.get("COMFY_HOST")):
            base = folder / "comfyui"
            base.mkdir()
            flags = ["--base-directory", shlex.quote(str(base)), inherited.get("COMFYUI_ARGS", "")]
            own["COMFYUI_PATH"] = str(root / "src" / "local_comfyui")
            own["COMFYUI_ARGS"] = " ".join(filter(None, flags))
        return own

    return environment
