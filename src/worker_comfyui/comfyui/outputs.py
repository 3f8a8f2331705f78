"""A history entry → the files and texts that the workflow's nodes reported. Pure.

ComfyUI (0.3.64 execution.py, nodes.py) stores for each output node a mapping of arbitrary keys to
lists; a file is an object with `filename`, `subfolder` and `type`. Custom nodes put anything there,
so nothing is taken for granted: the key is only a hint, and a name that leaves ComfyUI's folders
is a problem, never an artifact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from types import MappingProxyType
from typing import Any

from worker_comfyui.comfyui.entry import mapping
from worker_comfyui.errors import Detail
from worker_comfyui.media.media_types import Kind, by_name, kind_of
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.wording import cut

TEXT_KEYS = frozenset(("text", "string", "int", "float", "number", "boolean", "value", "prompts"))
"""Keys under which nodes report what they show; of other keys, only what is short is returned."""
TEXT_FIELDS = ("text", "value", "prompt")
FLAG_KEYS = frozenset(("animated", "unfinished_batch"))
"""What says something about the files beside them: the result says it in its own way."""
MAX_OTHER_TEXT = 10_000
MAX_DEPTH = 16
_KIND_BY_KEY: dict[str, Kind] = {
    "images": "images",
    "image": "images",
    "gifs": "videos",
    "video": "videos",
    "videos": "videos",
    "audio": "audio",
    "audios": "audio",
}


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the nodes reported, in the order of the workflow's nodes.

    Attributes:
        artifacts: Files to deliver.
        temporary: Previews: shown in ComfyUI's page, not meant to be kept; also what
            VideoHelperSuite leaves beside a film, in whichever folder.
        texts: `{"node_id", "name"?, "text"}` each, as in the result.
        problems: What was reported but cannot be used, with `node_id` and `message`.
    """

    artifacts: tuple[OutputFile, ...] = ()
    temporary: tuple[OutputFile, ...] = ()
    texts: tuple[dict[str, str], ...] = ()
    problems: tuple[Detail, ...] = ()


@dataclass(slots=True)
class _Collector:
    folders: Mapping[str, Path]
    artifacts: dict[str, OutputFile] = field(default_factory=dict)
    temporary: dict[str, OutputFile] = field(default_factory=dict)
    texts: list[dict[str, str]] = field(default_factory=list)
    problems: list[Detail] = field(default_factory=list)

    def file(self, node_id: str, key: str, item: dict[str, Any]) -> None:
        item = self._relative(item)
        try:
            artifact = _artifact(node_id, key, item)
        except ValueError as error:
            if item.get("type") != "temp":  # a preview, which nobody misses
                self.problems.append({"node_id": node_id, "message": f"{_shown(key)}: {error}"})
            return
        if artifact.folder_type == "output":
            self.artifacts.setdefault(artifact.name, artifact)
        elif artifact.folder_type == "temp":
            self._shown(artifact)
        if isinstance(item.get("workflow"), str):
            self._beside_a_film(node_id, key, item)

    def _relative(self, item: dict[str, Any]) -> dict[str, Any]:
        """Find the file of a node that reports whole paths within its folder.

        ComfyUI's page shows it if the whole path is in `subfolder` (server.py, `view_image`).
        """
        folder = self.folders.get(str(item.get("type") or "output"))
        names = (item.get("subfolder") or "", item["filename"])
        if folder is None or not all(isinstance(name, str) for name in names):
            return item
        path = PurePosixPath(*names)
        if not path.is_relative_to(folder):
            return item
        within = path.relative_to(folder)
        return {**item, "subfolder": str(within.parent), "filename": within.name}

    def _beside_a_film(self, node_id: str, key: str, item: dict[str, Any]) -> None:
        """Take what VideoHelperSuite leaves beside a film; ComfyUI's page shows the film alone.

        With `X-audio.mp4` it leaves `X.png`, which carries the workflow, and `X.mp4`, the film
        before it had sound (nodes.py, `combine_video`). Where that lies in the temp folder it is
        left there, as all that was not reported.
        """
        with suppress(ValueError):
            # The `format` is that of the film.
            cover = {**item, "filename": item["workflow"], "format": None}
            self._shown(_artifact(node_id, "images", cover))
            film, stem = PurePath(item["filename"]), PurePath(item["workflow"]).stem
            if film.stem == f"{stem}-audio" and item.get("type") != "temp":
                silent = {**item, "filename": f"{stem}{film.suffix}"}
                self._shown(_artifact(node_id, key, silent))

    def _shown(self, file: OutputFile) -> None:
        self.temporary.setdefault(file.name, file)

    def is_only_shown(self, file: OutputFile) -> bool:
        """Tell whether no node reported this very file as saved."""
        return file.folder_type != "output" or file.name not in self.artifacts

    def value(self, node_id: str, key: str, value: object, depth: int = 0) -> None:
        """Take anything that a node reported under a key."""
        if isinstance(value, (list, tuple)):
            self._list(node_id, key, value, depth)
        elif isinstance(value, dict):
            self._object(node_id, key, value)
        elif isinstance(value, str):
            self._text(node_id, key, value)
        elif value is not None:
            self._text(node_id, key, json.dumps(value))

    def _list(self, node_id: str, key: str, values: Sequence[object], depth: int) -> None:
        if len(values) > 1 and all(isinstance(c, str) and len(c) == 1 for c in values):
            # ComfyUI takes a bare text for a list of its characters.
            self._text(node_id, key, "".join(map(str, values)))
        elif depth == MAX_DEPTH:
            message = f"reported a list nested too deep under {_shown(key)}"
            self.problems.append({"node_id": node_id, "message": message})
        else:
            for item in values:
                self.value(node_id, key, item, depth + 1)

    def _object(self, node_id: str, key: str, value: dict[str, Any]) -> None:
        if "filename" in value:
            self.file(node_id, key, value)
            return
        if value.get("source") == "websocket":  # its image came over the websocket
            return
        for field_name in TEXT_FIELDS:
            if isinstance(value.get(field_name), str):
                self._text(node_id, key, value[field_name], name=value.get("name"))
                return
        try:
            if value:
                self._text(node_id, key, json.dumps(value))
        except (ValueError, RecursionError):
            message = f"reported an object under {_shown(key)} that cannot be returned"
            self.problems.append({"node_id": node_id, "message": message})

    def _text(self, node_id: str, key: str, text: str, name: object = None) -> None:
        if key not in TEXT_KEYS and len(text) > MAX_OTHER_TEXT:
            message = f"reported {len(text)} characters under {_shown(key)}, which are not returned"
            self.problems.append({"node_id": node_id, "message": message})
            return
        named = {"name": _valid_text(name)} if isinstance(name, str) else {}
        self.texts.append({"node_id": node_id, **named, "text": _valid_text(text)})


def collect(
    entry: Mapping[str, Any],
    node_ids: Sequence[str],
    folders: Mapping[str, Path] = MappingProxyType({}),
) -> Outputs:
    """Collect what a history entry reports.

    A file that is listed twice, under two keys or by two nodes, is taken once. Files of type
    `input` are the caller's own and are left out.

    Args:
        entry: One entry of `/history`, as `{"outputs": {...}, "meta"?: {...}, ...}`.
        node_ids: The workflow's nodes, in the caller's order; other nodes (a subgraph's) come
            last, or under the node that ComfyUI displays for them.
        folders: ComfyUI's own, by `type`, where they are known: nodes may report whole paths.
    """
    collector = _Collector(folders)
    for node_id, output in _by_node(entry, node_ids):
        for key, value in output.items():
            if key not in FLAG_KEYS:
                collector.value(node_id, str(key), value)
    return Outputs(
        tuple(collector.artifacts.values()),
        tuple(filter(collector.is_only_shown, collector.temporary.values())),
        tuple(collector.texts),
        tuple(collector.problems),
    )


def reporting_nodes(entry: Mapping[str, Any]) -> frozenset[str]:
    """Return the nodes that a history entry has anything of."""
    return frozenset(map(str, mapping(entry.get("outputs"))))


def _by_node(
    entry: Mapping[str, Any], node_ids: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    outputs = mapping(entry.get("outputs"))
    meta = mapping(entry.get("meta"))
    order = {node_id: index for index, node_id in enumerate(node_ids)}
    found = []
    for own_id, output in outputs.items():
        node_id = str(own_id)
        if node_id not in order:
            displayed = mapping(meta.get(own_id)).get("display_node")
            if isinstance(displayed, str) and displayed in order:
                node_id = displayed
        found.append((node_id, mapping(output)))
    found.sort(key=lambda pair: order.get(pair[0], len(order)))
    yield from found


def _artifact(node_id: str, key: str, item: dict[str, Any]) -> OutputFile:
    folder_type: Any = item.get("type") or "output"
    if folder_type not in ("output", "temp", "input"):
        raise ValueError(f"{_shown(item['filename'])} is of an unknown type, {_shown(folder_type)}")
    *folders, filename = _parts(item.get("subfolder"), item["filename"])
    media_type = by_name(filename)
    if media_type is None and isinstance(item.get("format"), str):
        word = item["format"]  # VideoHelperSuite: "video/h264-mp4", which is no media type
        kind = kind_of(word) if "/" in word else "files"
    else:
        kind = kind_of(media_type) if media_type else _KIND_BY_KEY.get(key, "files")
    return OutputFile(
        node_id,
        kind,
        filename,
        "/".join(folders),
        folder_type,
        media_type,
        is_listed_as_image=key == "images" and kind == "videos",
    )


def _parts(subfolder: object, filename: object) -> list[str]:
    """Split into folders and file name; raise ValueError if they could leave their folder."""
    subfolder = "" if subfolder is None else subfolder
    if not isinstance(subfolder, str) or not isinstance(filename, str):
        names = f"{_shown(filename)} in {_shown(subfolder)}"
        raise ValueError(f"{names} is not a file's name")  # noqa: TRY004 - a value from outside
    whole = f"{subfolder}/{filename}" if subfolder else filename
    if _valid_text(whole) != whole or any(ord(c) < 32 or c == "\x7f" for c in whole):
        raise ValueError(f"{_shown(whole)} has characters that a file's name cannot have")
    parts = whole.split("/")
    if whole.startswith(("/", "\\")) or ".." in whole.replace("\\", "/").split("/"):
        raise ValueError(f"{_shown(whole)} lies outside ComfyUI's folders; it was not read")
    if parts[-1] in {"", "."}:
        raise ValueError(f"{_shown(whole)} names no file")
    return [part for part in parts if part not in {"", "."}]


def _valid_text(text: str) -> str:
    """Replace lone surrogates, which no strict JSON or UTF-8 can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _shown(value: object) -> str:
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return repr(cut(value))
