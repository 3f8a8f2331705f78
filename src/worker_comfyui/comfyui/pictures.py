"""Images that come over the websocket: results of some nodes, previews of all others.

SaveImageWebsocket and its like send their results as full-size PNGs, in the frames in which
samplers send their previews as JPEGs (ComfyUI 0.3.64 custom_nodes/websocket_image_save.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from worker_comfyui.comfyui.events import Event, Picture
from worker_comfyui.errors import disk_errors
from worker_comfyui.media.output_file import OutputFile


class Pictures:
    """Keeps the results of one run.

    Args:
        output_nodes: The nodes whose pictures are results.
        new_path: Gives a path for a file of a name.
    """

    def __init__(self, output_nodes: Collection[str], new_path: Callable[[str], Path]) -> None:
        self.results: list[OutputFile] = []
        self._output_nodes = frozenset(output_nodes)
        self._new_path = new_path

    def take(self, event: Event) -> OutputFile | None:
        """Write a result to the disk, and return it; None for everything else.

        Raises:
            DiskFull: there is no space for it.
        """
        # A JPEG is a sampler's preview, also where an output node samples.
        if not isinstance(event, Picture) or event.media_type != "image/png":
            return None
        if event.node_id not in self._output_nodes:
            return None
        name = f"websocket_{len(self.results) + 1:05}_.png"
        path = self._new_path(name)
        with disk_errors():
            path.write_bytes(event.data)
        kept = OutputFile(event.node_id, "images", name, media_type="image/png", path=path)
        self.results.append(kept)
        return kept
