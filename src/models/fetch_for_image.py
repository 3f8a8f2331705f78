"""One step of the image's build: the file of /plan/file.json, in the layer that /layer becomes.

What is downloaded lies in a cache of the builder's until it is whole: a build that fails or is cut
off leaves it there, and the next one goes on. Then it moves into the layer, file by file, so that
the disk never has it all twice.

Every time in the layer is the same one, its folders' too, so that the same file makes the same
layer: what a registry has, it is not sent again. An empty plan makes an empty folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from models.downloads import Downloads
from models.items import Failed
from models.variants import ModelFile
from worker_comfyui.models.transfer.errors import TransferError
from worker_comfyui.models.transfer.lease import Lease
from worker_comfyui.models.transfer.rules import Tokens

PLAN = Path("/plan/file.json")
LAYER = Path("/layer")
MODELS = LAYER / "comfyui" / "models"
CACHE = Path("/var/cache/models")
TOKEN = Path("/run/secrets/HF_TOKEN")
TIME = 0


def main() -> None:
    """Fetch what the plan names."""
    MODELS.mkdir(parents=True)
    if PLAN.exists():
        try:
            fetch(PLAN.read_text(encoding="utf-8"))
        except (Failed, TransferError, OSError) as error:
            sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    for path in [LAYER, *LAYER.rglob("*")]:
        os.utime(path, (TIME, TIME))


def fetch(plan: str) -> None:
    """Download the file or repository of a plan, and move it to its place."""
    token = TOKEN.read_text(encoding="utf-8").strip() if TOKEN.exists() else ""
    key = hashlib.sha256(plan.encode()).hexdigest()[:32]
    with Lease(CACHE / "steps", key) as lease:
        lease.acquire(lambda: None)  # another build may be at the same file
        downloads = Downloads(CACHE / key, Tokens(hub=token or None), os.environ)
        downloads.run(downloads.variant([ModelFile.from_json(json.loads(plan))]))
        move(CACHE / key, MODELS)


def move(source: Path, target: Path) -> None:
    """Move all files of a folder below another, which may be another file system."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        path.unlink()
    shutil.rmtree(source)


if __name__ == "__main__":
    main()
