"""The environment of a local worker: which ComfyUI it gets, and what it must not inherit."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

LOOPBACK_HOSTS = "127.0.0.1,localhost,::1"
# With the first, workers would take no jobs; the keys are those of clients, the path is this one's.
NOT_INHERITED = ("SERVE_API_LOCALLY", "RUNPOD_API_KEY", "LOCAL_RUNPOD_API_KEY", "PYTHONPATH")


def describe_comfyui(inherited: Mapping[str, str]) -> str:
    """Say which ComfyUI the workers will use."""
    if host := inherited.get("COMFY_HOST"):
        return f"the one at {host} (COMFY_HOST)"
    if path := inherited.get("COMFYUI_PATH"):
        return f"{path} (COMFYUI_PATH)"
    return "local_comfyui: no models, no GPU (set COMFYUI_PATH or COMFY_HOST for a real one)"


def worker_environment(
    root: Path, inherited: Mapping[str, str], *, several: bool = False
) -> Callable[[Path], dict[str, str]]:
    """Make the function that gives each worker its environment.

    Args:
        root: The project's folder.
        inherited: The caller's environment; its COMFYUI_PATH or COMFY_HOST is respected, else each
            worker starts a `local_comfyui` of its own, with its files in the worker's folder.
        several: There will be more than one worker. With COMFYUI_PATH each ComfyUI then gets an
            input, an output and a temp folder of its own: input files keep their names, so jobs of
            two workers would take each other's from a common folder.
    """
    shared = {name: value for name, value in inherited.items() if name not in NOT_INHERITED}
    shared["PYTHONUNBUFFERED"] = "1"
    shared.setdefault("WORKFLOWS_PATH", str(root / "test_resources" / "workflows"))
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
        elif inherited.get("COMFYUI_PATH") and several:
            flags = [
                # One file may be used by one ComfyUI only: the next would not start.
                "--database-url sqlite:///:memory:",
                f"--temp-directory {shlex.quote(str(folder))}",
            ]
            for kind in ("input", "output"):
                (folder / kind).mkdir()
                flags.append(f"--{kind}-directory {shlex.quote(str(folder / kind))}")
            own["COMFYUI_ARGS"] = " ".join(filter(None, (*flags, inherited.get("COMFYUI_ARGS"))))
        return own

    return environment
