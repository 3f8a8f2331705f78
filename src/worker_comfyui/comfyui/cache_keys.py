"""Sees to it that ComfyUI's cache never answers for another job, while models stay cached.

ComfyUI keeps the results of nodes. Two kinds of them must not come from an earlier job: an output
node's, whose files have left ComfyUI's folders since, and those of a node that names an input file,
which has other content by now. An input that a node does not know is part of its cache key and has
no other effect (ComfyUI 0.3.64 comfy_execution/caching.py, execution.py `get_input_data`): such
nodes get one, the mark. They get it only where the cache could answer, and it is taken out of the
files again: the workflow that ComfyUI embeds there is the caller's.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from posixpath import normpath
from typing import Any

from worker_comfyui.job import Workflow, is_link, texts_in

MARK = "worker_comfyui_run"
MAX_REMEMBERED = 200_000
"""Digests of 16 bytes; a worker that has seen more marks every node."""
MAX_NAME = 4096  # PATH_MAX of Linux: longer texts name no file

_MARK_IN_JSON = re.compile(
    rb',\s*(\\*)"' + MARK.encode() + rb'\1":\s*\1"[0-9a-f-]{1,64}\1"|'
    rb'(\\*)"' + MARK.encode() + rb'\2":\s*\2"[0-9a-f-]{1,64}\2"\s*,?'
)
_PNG = b"\x89PNG\r\n\x1a\n"
Digest = bytes


class CacheKeys:
    """What one ComfyUI has run since it started, as far as its cache could answer for it.

    Args:
        shared: Others use that ComfyUI too: nothing is known of what it has run.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self._mark_all = shared
        self._run: set[Digest] = set()
        self._not_sent: set[Digest] = set()
        self._first_content: dict[str, str] = {}

    def marked(
        self,
        workflow: Workflow,
        *,
        output_nodes: Collection[str],
        contents: Mapping[str, str],
        mark: str,
    ) -> Workflow:
        """Return the workflow with a mark in every node that must run again.

        Args:
            workflow: As the caller means it; it stays as it is.
            output_nodes: The nodes that save or show something.
            contents: Digests of the job's input files by name.
            mark: What tells this run from all others.
        """
        marks = self._of_files(workflow, contents)
        known = {**contents, **marks}
        for node_id, digest in _digests(workflow, output_nodes, known).items():
            # `_run` has also what ComfyUI's cache dropped long ago: such a node runs in any case.
            if self._mark_all or digest in self._run:
                marks[node_id] = mark
            self._run.add(digest)
        self._mark_all = self._mark_all or self._remembered > MAX_REMEMBERED
        return with_marks(workflow, marks)

    @property
    def _remembered(self) -> int:
        return len(self._run) + len(self._not_sent) + len(self._first_content)

    def _of_files(self, workflow: Workflow, contents: Mapping[str, str]) -> dict[str, str]:
        """Mark the nodes that name a file which had other content, or none, in an earlier job."""
        files: dict[str, dict[str, str]] = {}
        changed: set[str] = set()
        for node_id, name in _names(workflow):
            content = _content(name, contents)
            if content is None and name not in self._first_content:
                self._not_sent.add(_digest(name))
                continue
            was_not_sent = _digest(name) in self._not_sent
            first = self._first_content.setdefault(name, "-" if was_not_sent else content or "-")
            files.setdefault(node_id, {})[name] = content or "-"
            if self._mark_all or first != (content or "-"):
                changed.add(node_id)
        return {node_id: _mark_of(files[node_id]) for node_id in files if node_id in changed}


def with_marks(workflow: Workflow, marks: Mapping[str, str]) -> Workflow:
    """Return the workflow with these marks, each in the node of that id."""
    marked = {
        node_id: {**workflow[node_id], "inputs": {**workflow[node_id]["inputs"], MARK: mark}}
        for node_id, mark in marks.items()
        if node_id in workflow
    }
    return {**workflow, **marked}


def is_marked(workflow: Workflow) -> bool:
    """Tell whether any node has a mark."""
    return any(MARK in node["inputs"] for node in workflow.values())


def remove_marks(path: Path) -> None:
    """Blank the marks in a file in which ComfyUI embedded the workflow.

    Spaces take their place, which JSON ignores, so that no length in the file changes: that is
    right for every container that does not compress its texts, and PNG's checksums are made anew.
    """
    if path.stat().st_size == 0:  # nothing that mmap takes
        return
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        found = [match.span() for match in _MARK_IN_JSON.finditer(data)]
        for start, end in found:
            data[start:end] = b" " * (end - start)
        if found and data[: len(_PNG)] == _PNG:
            _renew_checksums(data, [start for start, _ in found])


def _renew_checksums(data: mmap.mmap, places: Collection[int]) -> None:
    """Compute the CRC of each PNG chunk that one of the places lies in."""
    start = len(_PNG)
    while start + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        end = start + 12 + length
        if end > len(data):
            return
        if any(start < place < end for place in places):
            crc = zlib.crc32(data[start + 4 : end - 4])
            struct.pack_into(">I", data, end - 4, crc)
        start = end


def _mark_of(files: Mapping[str, str]) -> str:
    """Make one mark of the content of all files of a node, by their names."""
    if len(files) == 1:
        return next(iter(files.values()))
    return _digest(json.dumps(sorted(files.items()))).hex()


def _names(workflow: Workflow) -> Iterator[tuple[str, str]]:
    """Yield every value that could name an input file, with its node."""
    for node_id, node in workflow.items():
        for value in node["inputs"].values():
            for text in texts_in(value):
                if 0 < len(text) <= MAX_NAME:
                    yield node_id, normpath(text.removesuffix("[input]").strip())


def _content(name: str, contents: Mapping[str, str]) -> str | None:
    """Return the digest of the job's file of that name, or of all in the folder of that name."""
    if name in contents:
        return contents[name]
    inside = sorted((n, d) for n, d in contents.items() if n.startswith(f"{name}/"))
    return _digest(json.dumps(inside)).hex() if inside else None


def _digests(
    workflow: Workflow, wanted: Collection[str], contents: Mapping[str, str]
) -> dict[str, Digest]:
    """Return for each wanted node a digest of itself and of everything it is made from.

    Equal cache keys have equal digests; the other way round needs not be true.
    """
    done: dict[str, Digest] = {}
    for start in wanted:
        stack = [start]  # no recursion: workflows may be thousands of nodes long
        begun: set[str] = set()  # ends a loop of links, which ComfyUI refuses later
        while stack:
            node_id = stack[-1]
            sources = [s for s in _sources(workflow, node_id) if s not in done and s not in begun]
            begun.add(node_id)
            if sources:
                stack += sources
                continue
            stack.pop()
            if node_id not in done:
                done[node_id] = _node_digest(workflow, node_id, done, contents)
    return {node_id: done[node_id] for node_id in wanted if node_id in done}


def _sources(workflow: Workflow, node_id: str) -> list[str]:
    inputs = workflow[node_id]["inputs"].values()
    return [value[0] for value in inputs if is_link(value) and value[0] in workflow]


def _node_digest(
    workflow: Workflow, node_id: str, done: Mapping[str, Digest], contents: Mapping[str, str]
) -> Digest:
    def shown(value: Any) -> Any:
        if is_link(value):
            return [done.get(value[0], b"").hex(), value[1]]
        return [value, contents.get(value)] if isinstance(value, str) else [value]

    node = workflow[node_id]
    inputs = {name: shown(value) for name, value in node["inputs"].items()}
    return _digest(json.dumps([node["class_type"], inputs], sort_keys=True))


def _digest(text: str) -> Digest:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
