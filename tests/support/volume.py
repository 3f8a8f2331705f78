"""Network volumes for tests: real files, real links, laid out as the platform does."""

from __future__ import annotations

import json
import os
from pathlib import Path

REVISION = "0f6b956e6e2e041fb73d079b72ec0e761506f601"


def weights(path: Path, size: int = 64) -> Path:
    """Write a small, whole safetensors file."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    return path


def cached_model(
    volume: Path,
    repository: str,
    files: tuple[str, ...],
    *,
    revision: str = REVISION,
    main: str | None = REVISION,
) -> Path:
    """Put a repository into the platform's cache, as huggingface_hub does; return its snapshot.

    Args:
        volume: The volume's root.
        repository: `ORG/NAME`.
        files: Their paths in the repository.
        revision: The snapshot's.
        main: What refs/main says; None: there is none.
    """
    folder = volume / "huggingface-cache" / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    for number, name in enumerate(files):
        blob = weights(folder / "blobs" / f"{revision}-{number}")
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if main is not None:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(main)
    return snapshot
