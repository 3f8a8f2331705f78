"""Downloads the files of a model variant, for an image or a network volume.

Resumes, checks size and SHA-256, fetches several at once, and says first what it needs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huggingface_hub import get_token
from huggingface_hub.utils.tqdm import disable_progress_bars

from models.hub import STAGING, DownloadError, RemoteFile, fetch, look_up, remove_staging
from models.variants import LIST, ModelFile, UnknownVariantError, find, load

AT_ONCE = 4
GB = 1_000_000_000


class Shortage(Exception):
    """Something is missing before anything was downloaded: a token, or room on the disk."""


def download(files: Sequence[ModelFile], folder: Path, token: str | None) -> None:
    """Download the files below `folder`, and print how it goes.

    Raises:
        DownloadError: a file cannot be had.
        Shortage: nothing was downloaded, since a token or room is missing.
    """
    _require_token(files, token)
    remote = [item for file in files for item in look_up(file, token)]
    for file in files:
        if file.revision is None and file.sha256 is None:
            say(f"note: {file.repository} is pinned to no revision: the newest one is taken")
    total = sum(item.size for item in remote)
    _require_room(remote, folder)
    say(f"{len(remote)} files, {gigabytes(total)}, to {folder}")

    disable_progress_bars()
    finished = threading.Event()
    watcher = threading.Thread(target=_report, args=(remote, folder, finished), daemon=True)
    watcher.start()
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            fetched = list(pool.map(lambda item: fetch(item, folder, token), remote))
    finally:
        finished.set()
        watcher.join()
    remove_staging(folder)
    say(f"All {len(remote)} files are there and checked; {fetched.count(False)} were before.")


def _require_token(files: Sequence[ModelFile], token: str | None) -> None:
    gated = sorted({file.repository for file in files if file.gated})
    if gated and not token:
        pages = " and ".join(f"https://huggingface.co/{repository}" for repository in gated)
        raise Shortage(
            f"{' and '.join(gated)} can be read with a token only: accept the terms at {pages}, "
            "make a read token at https://huggingface.co/settings/tokens, and set HF_TOKEN "
            "(for an image: the build secret HF_TOKEN, see docs/deployment.md)"
        )


def _require_room(files: Sequence[RemoteFile], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    missing = sum(file.size for file in files) - _on_disk(files, folder)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise Shortage(
            f"{folder} has {gigabytes(free)} free, but {gigabytes(missing)} are missing: "
            "make room, or choose another folder"
        )


def _on_disk(files: Sequence[RemoteFile], folder: Path) -> int:
    finished = (folder / file.destination for file in files)
    staged = (folder / STAGING).rglob("*") if (folder / STAGING).is_dir() else ()
    return sum(_size(path) for path in [*finished, *staged])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # it was just moved to its place
        return 0


def _report(files: Sequence[RemoteFile], folder: Path, finished: threading.Event) -> None:
    """Print the progress: one line that is rewritten on a terminal, else a line now and then."""
    terminal = sys.stderr.isatty()
    total = sum(file.size for file in files)
    start, began_with = time.monotonic(), _on_disk(files, folder)
    while not finished.wait(1 if terminal else 15):
        done = min(_on_disk(files, folder), total)
        rate = (done - began_with) / (time.monotonic() - start)
        left = f", {(total - done) / rate / 60:.0f} min left" if rate > 0 and done < total else ""
        line = f"{gigabytes(done)} of {gigabytes(total)}, {rate / 1e6:.0f} MB/s{left}"
        sys.stderr.write(f"\r{line:<60}" if terminal else f"{line}\n")
        sys.stderr.flush()
    if terminal:
        sys.stderr.write("\r" + " " * 60 + "\r")


def gigabytes(size: int) -> str:
    """Write a size in bytes for people."""
    return f"{size / GB:.1f} GB" if size >= GB / 10 else f"{size / 1e6:.1f} MB"


def say(text: str) -> None:
    """Print a line where it does not mix with anything that is read by programs."""
    sys.stderr.write(f"{text}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="download-models",
        description="Download the models of a variant to a folder such as a network volume's.",
        epilog="A token for gated models comes from HF_TOKEN, HUGGINGFACE_ACCESS_TOKEN or "
        "`hf auth login`. Run it again after a failure: it goes on where it stopped.",
    )
    parser.add_argument("variant", metavar="VARIANT", help=", ".join(load()))
    parser.add_argument(
        "--to",
        type=Path,
        default=Path("models"),
        metavar="FOLDER",
        help="the models folder, such as /runpod-volume/models (default: ./models)",
    )
    parser.add_argument(
        "--list", type=Path, default=LIST, metavar="FILE", help="another list of variants"
    )
    chosen = parser.parse_args(arguments)
    try:
        variant = find(chosen.variant, load(chosen.list))
        files = [ModelFile.from_json(file) for file in variant.get("files", [])]
        if not files:
            say(f"{chosen.variant} has no models of its own: nothing to download.")
            return 0
        say(f"{chosen.variant}: {variant['title']}. Licence: {variant['licence']}")
        token = os.environ.get("HUGGINGFACE_ACCESS_TOKEN") or get_token()
        download(files, chosen.to, token)
    except (UnknownVariantError, DownloadError, Shortage) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Run it again to go on where it stopped.")
        return 130
    say(f"Next: a request that uses them: test_resources/workflows/{variant['workflow']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
