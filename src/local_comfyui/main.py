"""The entry point: ``python src/local_comfyui/main.py``, with ComfyUI's own flags."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

if __name__ == "__main__":
    # Python puts this folder on the path; the package is found in the folder above it.
    sys.path = [
        str(PACKAGE.parent),
        *(entry for entry in sys.path if Path(entry).resolve() != PACKAGE),
    ]

    from local_comfyui.application import run

    sys.exit(run(sys.argv[1:]))
