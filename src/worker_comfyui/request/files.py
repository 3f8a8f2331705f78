"""The files of a request: `images` and `files`, their names and where their content is."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

from worker_comfyui.job import Field, InputFile
from worker_comfyui.request.problems import Problems
from worker_comfyui.wording import cut

MAX_FILES = 1000
"""In `images` and `files` together."""
MAX_NAME_BYTES = 255  # NAME_MAX of Linux
MAX_FOLDERS = 7
MAX_SHOWN = 80
"""Characters of a name that cannot be used: enough to tell which one it is."""

_FIELDS: dict[str, tuple[Field, ...]] = {
    "images": ("image", "url", "data"),
    "files": ("data", "url", "image"),
}
"""For each list, where the content is looked for: what is documented first, then what is meant."""


def input_files(sent: dict[str, Any], problems: Problems) -> Iterator[InputFile]:
    """Read `images` and `files`. A name may come twice: the contents have to be alike then."""
    seen: dict[str, str] = {}
    count = 0
    for group, fields in _FIELDS.items():
        entries = sent.get(group)
        if entries is None:
            continue
        if not isinstance(entries, list):
            problems.add(group, f"must be a list of objects with `name` and `{fields[0]}`")
            continue
        count += len(entries)
        if count > MAX_FILES:
            problems.add(group, f"has more entries than are taken: {MAX_FILES} for all files")
            continue
        for index, entry in enumerate(entries):
            file = _file(f"{group}[{index}]", entry, fields, seen, problems)
            if file is not None:
                yield file


def _file(
    place: str, entry: Any, fields: tuple[Field, ...], seen: dict[str, str], problems: Problems
) -> InputFile | None:
    if not isinstance(entry, dict):
        problems.add(place, f"must be an object with `name` and `{fields[0]}`")
        return None
    name = _name(place, entry.get("name"), seen, problems)
    field = next((field for field in fields if entry.get(field) is not None), fields[0])
    source = entry.get(field)
    if not isinstance(source, str) or not source.strip():
        problems.add(f"{place}.{field}", "must be base64, a data URI or an http(s) URL")
        return None
    if name is None:
        return None
    return InputFile(place, "images" if fields[0] == "image" else "files", field, name, source)


def _name(place: str, name: Any, seen: dict[str, str], problems: Problems) -> str | None:
    place = f"{place}.name"
    if not isinstance(name, str) or not name:
        problems.add(place, "must be the file's name, as the workflow refers to it")
        return None
    plain = _without_dots(name)
    fault = _name_fault(plain)
    if fault:
        problems.add(place, f"{fault}: {cut(name, MAX_SHOWN)}")
        return None
    for other, first in seen.items():
        if plain.startswith(f"{other}/") or other.startswith(f"{plain}/"):
            problems.add(place, f"cannot be both a file and the folder of one, see {first}")
            return None
    seen.setdefault(plain, place)
    return plain


def _without_dots(name: str) -> str:
    """Write `./a//b.png` as `a/b.png`: loaders find the same file under either name."""
    if name.startswith("/") or name.endswith("/"):
        return name
    parts = name.split("/", 4 * MAX_FOLDERS)
    return "/".join(part for part in parts if part not in {"", "."})


def _name_fault(name: str) -> str | None:
    parts = name.split("/", MAX_FOLDERS + 1)
    if name.startswith("/") or name[1:2] == ":":
        return "must be a relative name, not an absolute path"
    # A quote cannot be uploaded to a ComfyUI elsewhere: in a form it is written as %22.
    if any(part in {"", ".", ".."} for part in parts) or "\\" in name or '"' in name:
        return "must be a plain name or folder/name, without `..`, `.`, backslashes or quotes"
    sizes = [len(part.encode("utf-8", "surrogatepass")) for part in parts]
    if len(parts) > MAX_FOLDERS + 1 or max(sizes) > MAX_NAME_BYTES:
        return f"must have at most {MAX_NAME_BYTES} bytes in at most {MAX_FOLDERS} folders"
    # Control characters, lone surrogates, line ends; narrow spaces of screenshots' names are fine.
    if any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in name):
        return "must not have control characters"
    if name.endswith(("[input]", "[output]", "[temp]")):
        return "must not end in the name of one of ComfyUI's folders"
    return None
