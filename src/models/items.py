"""What is downloaded for an image or a folder, and why it may fail."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from worker_comfyui.models.transfer.remote import Remote


class Failed(Exception):
    """Some files could not be had; the text names each with its reason."""


class Shortage(Failed):
    """Something is missing before anything was downloaded: a token, or room on the disk."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file to download.

    Attributes:
        title: What it is called in messages.
        url: Where it is had, in one of the forms of `sources`.
        destination: Its path below the folder.
        sha256: Of its content, if it is known.
        size: Its bytes, if they are known.
        remote: What the hub said of it already.
    """

    title: str
    url: str
    destination: str
    sha256: str | None = None
    size: int | None = None
    remote: Remote | None = None


def say(text: str) -> None:
    """Print a line where it does not mix with anything that is read by programs."""
    sys.stderr.write(f"{text}\n")
