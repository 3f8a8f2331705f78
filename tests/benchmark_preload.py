"""From the worker's start to the first result, with a large model on a cold and slow disk.

Once as it is, and once with PRELOAD_MODELS. A node reads the model as ComfyUI's loaders do. Part of
`./scripts/benchmark`.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.benchmark_downloads import make
from tests.support.comfyui import ROOT
from tests.support.disk import make_cold, throttled
from tests.support.handler import handler_environment, on_platform, running_handler
from tests.support.platform import running_platform
from tests.support.workflows import node

NODES = (ROOT / "tests" / "nodes" / "model_nodes.py",)
NAME = "large.safetensors"
MEGA = 1_000_000
LIMIT_S = 1800
ROUNDS = 3


def measure(base: Path, gigabytes: float, megabytes_per_s: int) -> list[str]:
    """Run both in turn; return the table's lines."""
    model = base / NAME
    make(model, int(gigabytes * 1e9))
    found: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    with throttled(base, megabytes_per_s * MEGA) as is_slow:
        for number in range(ROUNDS):
            for name, runs in found.items():
                more = {"PRELOAD_MODELS": f"checkpoints/{NAME}"} if name == "with" else {}
                runs.append(first_result(base / f"{name}-{number}", model, more))
    model.unlink()
    disk = f"{megabytes_per_s} MB/s" if is_slow else "as fast as it is (a slower one needs root)"
    lines = [f"{gigabytes:g} GB, page cache cold, disk {disk}, median of {ROUNDS}:"]
    whole = {}
    for name, runs in found.items():
        whole[name] = median(run[0] for run in runs)
        read = median(run[1] for run in runs)
        label = f"{name} PRELOAD_MODELS"
        lines.append(f"{label:<24} {whole[name]:6.1f} s to the result, {read:6.1f} s in the loader")
    return [*lines, f"{'it saves':<24} {whole['without'] - whole['with']:6.1f} s"]


def first_result(base: Path, model: Path, variables: dict[str, str]) -> tuple[float, float]:
    """Seconds from the start of the worker's process to its first result, and in the loader."""
    place = base / "models" / "checkpoints" / NAME
    place.parent.mkdir(parents=True)
    place.hardlink_to(model)
    make_cold(place)
    with ExitStack() as stack:
        platform = stack.enter_context(running_platform())
        job_id = platform.run({"workflow": {"1": node("TestReadModel", weights=NAME)}})
        environment = handler_environment(base, **on_platform(platform), **variables)
        handler = stack.enter_context(running_handler(base, environment, extra_nodes=NODES))
        job = platform.wait(job_id, LIMIT_S)
        taken = time.monotonic() - handler.started_at
    place.unlink()
    if job["status"] != "COMPLETED":
        raise RuntimeError(job)
    return taken, float(job["output"]["texts"][0]["text"])
