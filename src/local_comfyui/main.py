"""The entry point: ``python src/local_comfyui/main.py``, with ComfyUI's own flags."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts this folder there; the package is found in the folder above it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from PIL import ImageFile

    from local_comfyui.application import run

    # An image that is cut off is loaded as far as it goes, as ComfyUI does (node_helpers.py).
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    sys.exit(run(sys.argv[1:]))
