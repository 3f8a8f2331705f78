"""One file that a workflow made, from ComfyUI's report to the result: it gains facts on its way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worker_comfyui.media.image_info import ImageInfo
from worker_comfyui.media.media_types import Kind
from worker_comfyui.media.playing import Playing

FolderType = Literal["output", "temp", "input"]


@dataclass(slots=True)
class OutputFile:
    """A file that a workflow made.

    Attributes:
        node_id: The node in the caller's workflow that reported it; None: nobody reported it.
        kind: The result's list for it: by its name at first, later by its content.
        filename: Without any folder.
        subfolder: Relative to the folder of `folder_type`, with `/`; empty: directly in it.
        folder_type: The folder of ComfyUI that it is in; `temp` for previews.
        media_type: By its name or the node's word; None: the content has to tell.
        path: Its copy on this machine, in a folder of the worker's; None: it was not fetched yet.
        info: What its headers tell, once it is known to be an image.
        playing: What its headers tell, once it is known to be a video or sound.
        sha256: Of the copy as it is delivered, in hexadecimal; None: it was not read yet.
        url: Where the caller can download it; None: it comes inline.
        is_listed_as_image: Whether its node reported it among images, as core SaveVideo does: the
            existing worker returns it there.
        uploaded: Whether that is an address of the caller's own (`output.upload`).
    """

    node_id: str | None
    kind: Kind
    filename: str
    subfolder: str = ""
    folder_type: FolderType = "output"
    media_type: str | None = None
    path: Path | None = None
    info: ImageInfo | None = None
    playing: Playing | None = None
    sha256: str | None = None
    url: str | None = None
    is_listed_as_image: bool = False
    uploaded: bool = False

    @property
    def name(self) -> str:
        """Its name relative to the folder of `folder_type`."""
        return f"{self.subfolder}/{self.filename}" if self.subfolder else self.filename

    @property
    def copy(self) -> Path:
        """Its copy on this machine.

        Raises:
            ValueError: it was not fetched.
        """
        if self.path is None:
            raise ValueError(f"{self.name} was not fetched")
        return self.path

    @property
    def bytes(self) -> int:
        """The size of its copy on this machine."""
        return self.copy.stat().st_size
