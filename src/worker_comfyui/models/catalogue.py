"""Where each model can be had: entries of the operator, the request and the workflow, in order."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path, PurePosixPath
from typing import Any

from worker_comfyui.errors import ConfigurationError, Detail
from worker_comfyui.models.transfer.errors import Refused
from worker_comfyui.models.transfer.sources import source
from worker_comfyui.wording import cut

FIELDS = ("folder", "name", "url", "sha256", "bytes")
MAX_ENTRIES = 2000
MAX_FOLDERS = 5
OLD_FOLDERS = {"unet": "diffusion_models", "clip": "text_encoders"}
"""ComfyUI still reads folders of these names, and lists them under the new ones."""
FORBIDDEN_FOLDERS = frozenset(("custom_nodes", "configs"))
"""What lies there is run, or says what is run."""

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Origin(IntEnum):
    """Who says where a model can be had; the first to say so counts."""

    OPERATOR = 0
    REQUEST = 1
    WORKFLOW = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Where one model can be had.

    Attributes:
        folder: The kind of model, by ComfyUI's name of its folder: `loras`.
        name: Its file's name there, with folders where it has them.
        url: In one of the forms of `transfer.sources`.
        origin: Who says so.
        path: Where it stands: `models[0]`.
        sha256: Of its content, in lower case, if known.
        bytes: Its length, if known.
    """

    folder: str
    name: str
    url: str
    origin: Origin
    path: str
    sha256: str | None = None
    bytes: int | None = None


class Catalogue:
    """All entries that count for a job."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = sorted(entries, key=lambda entry: entry.origin)

    def __len__(self) -> int:
        return len(self._entries)

    def having(self, entries: Iterable[Entry]) -> Catalogue:
        """Return a catalogue with these as well."""
        return Catalogue([*self._entries, *entries])

    def find(self, name: str, folder: str | None) -> list[Entry]:
        """List the entries for a model, the first to try first.

        A name with folders (`SDXL/x.safetensors`) is found by its last part too, since workflows
        name it as it lay on their author's disk.

        Args:
            name: As the workflow names it.
            folder: The kind of model; None: not known.
        """
        plain = name.replace("\\", "/")
        mine = [e for e in self._entries if folder is None or e.folder == folder]
        exact = [e for e in mine if e.name == plain]
        return exact or [e for e in mine if _last(e.name) == _last(plain)]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)


def _last(name: str) -> str:
    return PurePosixPath(name).name


def parse(value: Any, path: str, origin: Origin, problems: list[Detail]) -> list[Entry]:
    """Read a list of entries, and note every problem with its path.

    Args:
        value: JSON: a list of objects `{folder, name, url, sha256?, bytes?}`.
        path: Where it stands, for messages: `models`.
        origin: Who sent it.
        problems: Is added to.
    """
    if not isinstance(value, list):
        problems.append(_problem(path, "must be a list of objects with `folder`, `name` and `url`"))
        return []
    if len(value) > MAX_ENTRIES:
        said = f"has {len(value)} entries; at most {MAX_ENTRIES} are taken"
        problems.append(_problem(path, said))
        return []
    found = [_entry(item, f"{path}[{i}]", origin, problems) for i, item in enumerate(value)]
    return [entry for entry in found if entry]


def read(text: str) -> Catalogue:
    """Read the operator's catalogue: a file's path, or YAML or JSON itself.

    Raises:
        ConfigurationError: with every problem.
    """
    content, where = text, "MODEL_CATALOG"
    if not text.lstrip().startswith(("[", "{", "- ")) and "\n" not in text:
        where = f"MODEL_CATALOG ({text})"
        try:
            content = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"{where} cannot be read: {reason}") from error
    value = _document(content, where)
    if isinstance(value, dict) and set(value) == {"models"}:
        value = value["models"]
    problems: list[Detail] = []
    entries = parse(value, where, Origin.OPERATOR, problems)
    if problems:
        raise ConfigurationError("; ".join(f"{p['path']} {p['message']}" for p in problems[:20]))
    return Catalogue(entries)


def _document(content: str, where: str) -> Any:
    try:
        if content.lstrip().startswith(("[", "{")):
            return json.loads(content)
    except (ValueError, RecursionError):
        pass  # YAML has lists in brackets as well
    # Imported here: most workers have no catalogue.
    import yaml  # noqa: PLC0415

    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{where} is neither JSON nor YAML: {error}") from error


def of_workflow(document: Any) -> list[Entry]:
    """List what a file of ComfyUI's editor says of its models; what cannot be used is left out.

    Its loader nodes, those of subgraphs as well, have `properties.models`: objects `{name, url,
    directory, hash?, hash_type?}` (ComfyUI's workflow templates). Older files have one list of
    them at the top.
    """
    entries: dict[tuple[str, str, str], Entry] = {}
    places = [(f"node {_get(node, 'id')}", _get(node, "properties")) for node in _nodes(document)]
    for place, named in [*places, ("the workflow", document)]:
        models = _get(named, "models")
        for item in models if isinstance(models, list) else ():
            is_sha256 = str(_get(item, "hash_type")).upper().replace("-", "") == "SHA256"
            entry = _entry(
                {
                    "folder": _get(item, "directory"),
                    "name": _get(item, "name"),
                    "url": _get(item, "url"),
                    **({"sha256": _get(item, "hash")} if is_sha256 and _get(item, "hash") else {}),
                },
                place,
                Origin.WORKFLOW,
                [],
            )
            if entry and len(entries) < MAX_ENTRIES:
                entries.setdefault((entry.folder, entry.name, entry.url), entry)
    return list(entries.values())


def _nodes(document: Any) -> Iterator[Any]:
    definitions = _get(_get(document, "definitions"), "subgraphs")
    for graph in [document, *(definitions if isinstance(definitions, list) else ())]:
        nodes = _get(graph, "nodes")
        yield from nodes if isinstance(nodes, list) else ()


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _problem(path: str, message: str) -> Detail:
    return {"path": path, "message": message}


def _entry(item: Any, path: str, origin: Origin, problems: list[Detail]) -> Entry | None:
    if not isinstance(item, dict):
        problems.append(_problem(path, "must be an object with `folder`, `name` and `url`"))
        return None
    faults = {name: fault for name in FIELDS if (fault := _CHECKS[name](item.get(name)))}
    for name in item:
        if name not in FIELDS:
            faults[cut(str(name))] = f"is unknown; the fields are {', '.join(FIELDS)}"
    problems += [_problem(f"{path}.{name}", fault) for name, fault in faults.items()]
    if faults:
        return None
    digest = item.get("sha256")
    return Entry(
        folder=OLD_FOLDERS.get(str(item["folder"]), str(item["folder"])),
        name=item["name"],
        url=item["url"],
        origin=origin,
        path=path,
        sha256=digest.lower() if digest else None,
        bytes=item.get("bytes"),
    )


def folder_fault(value: Any) -> str | None:
    """Say why a text is no folder of models."""
    if not isinstance(value, str) or not _FOLDER.fullmatch(value):
        return "must be the name of a folder of models, such as loras"
    if value.lower() in FORBIDDEN_FOLDERS:
        return f"must be a folder of models, not {value}"
    return None


def name_fault(value: Any) -> str | None:
    """Say why a text is no name of a model's file."""
    if not isinstance(value, str) or not value:
        return "must be the file's name, as the workflow names it"
    parts = value.split("/")
    is_drive = value[1:2] == ":"
    if is_drive or len(parts) > MAX_FOLDERS + 1 or any(map(_is_odd, parts)):
        return "must be a plain name or folder/name, without `..`, hidden parts or backslashes"
    if not PurePosixPath(value).suffix:
        return "must have an ending, such as .safetensors"
    return None


def _is_odd(part: str) -> bool:
    is_text = not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in part)
    return not is_text or not part.strip() or part[0] == "." or "\\" in part or len(part) > 200


def _url_fault(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return "must be a URL, hf://OWNER/NAME/PATH, or civitai://VERSION"
    try:
        source(value)
    except Refused as error:
        return f"cannot be used: {error}"
    return None


def _sha256_fault(value: Any) -> str | None:
    is_right = value is None or (isinstance(value, str) and _SHA256.fullmatch(value))
    return None if is_right else "must be 64 hexadecimal digits"


def _bytes_fault(value: Any) -> str | None:
    # Not isinstance: true is no number of bytes.
    is_right = value is None or (type(value) is int and value > 0)
    return None if is_right else "must be a whole number above 0"


_CHECKS = {
    "folder": folder_fault,
    "name": name_fault,
    "url": _url_fault,
    "sha256": _sha256_fault,
    "bytes": _bytes_fault,
}


def line_to_add(folder: str, name: str) -> str:
    """Write the entry that is missing, as it would stand in MODEL_CATALOG or `input.models`."""
    return json.dumps({"folder": folder, "name": name, "url": "https://..."})
