"""How long converting takes: the slowest pair, and files of 1,000, 2,000 and 4,000 nodes.

.venv/bin/python tests/benchmark_workflows.py
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", ".")]

from tests.worker_comfyui.workflows.graphs import chain  # noqa: E402
from tests.worker_comfyui.workflows.pairs import (  # noqa: E402
    circumstances,
    names,
    object_info,
    pair,
)
from worker_comfyui.workflows.editor.convert import convert  # noqa: E402

TIMES = 5


def milliseconds(run: Callable[[], object]) -> float:
    """Take the best of some runs, in processor time: it does nothing but compute."""
    best = float("inf")
    for _ in range(TIMES):
        gc.collect()
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best * 1000


def main() -> None:
    """Print the figures."""
    for name in names():
        object_info(name)
    gc.freeze()  # the pairs themselves are no part of a worker's memory
    taken = {}
    for name in names():
        file, info = pair(name)[0], object_info(name)
        taken[name] = milliseconds(lambda: convert(file, info, circumstances()))  # noqa: B023
    slowest = sorted(taken, key=lambda name: -taken[name])[:3]
    sys.stdout.write(f"{len(taken)} pairs: {sum(taken.values()) / len(taken):.1f} ms on average\n")
    for name in slowest:
        sys.stdout.write(f"{taken[name]:7.1f} ms  {name}\n")
    for count in (1000, 2000, 4000):
        file, info = chain(count), object_info()
        taken_here = milliseconds(lambda: convert(file, info, circumstances()))  # noqa: B023
        sys.stdout.write(f"{taken_here:7.1f} ms  {count} nodes in a chain\n")


if __name__ == "__main__":
    main()
