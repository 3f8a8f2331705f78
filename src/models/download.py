"""Downloads models to a folder: those of a variant, or those that a workflow file names.

Goes on where it stopped, checks size and SHA-256, fetches several at once, says first what it
needs, and lets one that fails keep none of the others. What fetches them is the worker's own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from models import workflow_file
from models.downloads import Downloads
from models.items import Failed, say
from models.variants import LIST, ModelFile, UnknownVariantError, find, load
from worker_comfyui.models.transfer.errors import TransferError
from worker_comfyui.models.transfer.rules import Tokens


def tokens(environ: Mapping[str, str]) -> Tokens:
    """Find the tokens: in the environment, or where `hf auth login` writes it."""
    # The second is what builds of the existing worker's image take.
    hub = environ.get("HF_TOKEN") or environ.get("HUGGINGFACE_ACCESS_TOKEN")
    if not hub:
        cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = environ.get("HF_HOME") or f"{cache}/huggingface"
        path = Path(environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()
        with suppress(OSError, UnicodeError):
            hub = path.read_text(encoding="utf-8")
    return Tokens(hub=(hub or "").strip() or None, civitai=environ.get("CIVITAI_TOKEN") or None)


def arguments_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="download-models",
        description="Download the models of a variant, or those that a workflow file names, to a "
        "folder such as a network volume's.",
        epilog="Tokens come from HF_TOKEN, HUGGINGFACE_ACCESS_TOKEN or `hf auth login`, and from "
        "CIVITAI_TOKEN. Run it again after a failure: it goes on where it stopped.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("variant", metavar="VARIANT", nargs="?", help=", ".join(load()))
    what.add_argument(
        "--workflow",
        type=Path,
        metavar="FILE",
        help="a file that ComfyUI's editor saved, or a request: what it says of its models",
    )
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
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    chosen = arguments_of(arguments)
    downloads = Downloads(chosen.to, tokens(os.environ), os.environ)
    try:
        for line in _run(chosen, downloads):
            say(line)
    except (UnknownVariantError, Failed, TransferError, OSError) as error:
        say("\n".join(f"error: {line}" for line in str(error).splitlines()))
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Run it again to go on where it stopped.")
        return 130
    return 0


def _run(chosen: argparse.Namespace, downloads: Downloads) -> Iterable[str]:
    if chosen.workflow:
        yield from _workflow(chosen.workflow, downloads)
    else:
        yield from _variant(find(chosen.variant, load(chosen.list)), chosen.variant, downloads)


def _workflow(path: Path, downloads: Downloads) -> Iterator[str]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Failed(f"{path} is no JSON: {error}") from error
    items = workflow_file.items(document)
    if items:
        downloads.run(items)
    else:
        yield f"{path} does not say where any model can be had: nothing to download."


def _variant(variant: Mapping[str, Any], name: str, downloads: Downloads) -> Iterator[str]:
    files = [ModelFile.from_json(file) for file in variant.get("files", [])]
    if not files:
        yield f"{name} has no models of its own: nothing to download."
        return
    yield f"{name}: {variant['title']}. Licence: {variant['licence']}"
    downloads.run(downloads.variant(files))
    yield f"Next: a request that uses them: test_resources/workflows/{variant['workflow']}"


if __name__ == "__main__":
    sys.exit(main())
