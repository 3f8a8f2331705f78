"""One step of the image's build: the file of /plan/file.json, in the layer that /layer becomes.

Every time in the layer is the same one, its folders' too, so that the same file makes the same
layer: what a registry has, it is not sent again. An empty plan makes an empty folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from models.download import Shortage, download
from models.hub import DownloadError
from models.variants import ModelFile

PLAN = Path("/plan/file.json")
LAYER = Path("/layer")
MODELS = LAYER / "comfyui" / "models"
TOKEN = Path("/run/secrets/HF_TOKEN")
TIME = 0


def main() -> None:
    """Fetch what the plan names."""
    MODELS.mkdir(parents=True)
    if PLAN.exists():
        token = TOKEN.read_text(encoding="utf-8").strip() if TOKEN.exists() else ""
        try:
            download(
                [ModelFile.from_json(json.loads(PLAN.read_text(encoding="utf-8")))],
                MODELS,
                token or None,
            )
        except (DownloadError, Shortage) as error:
            sys.exit(f"error: {error}")
    for path in [LAYER, *LAYER.rglob("*")]:
        os.utime(path, (TIME, TIME))


if __name__ == "__main__":
    main()
