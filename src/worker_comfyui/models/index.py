"""What the store has: a small file for each model that it fetched, beside the models.

A record's time of change says when the model was last used.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

ENDING = ".json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One model of the store.

    Attributes:
        folder: Its kind.
        name: Its name there.
        bytes: Its length.
        sha256: Of its content.
        sources: What it is called where it can be had: `transfer.sources.Source.identity`.
        url: Where it came from, without a query.
    """

    folder: str
    name: str
    bytes: int
    sha256: str
    sources: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def title(self) -> str:
        """Its folder and name."""
        return f"{self.folder}/{self.name}"


class Index:
    """All records. Safe for many processes: each record is written as a whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, folder: str, name: str) -> Record | None:
        """Return a record; None if there is none that can be read."""
        try:
            text = self._path(folder, name).read_text(encoding="utf-8")
            record = Record(**json.loads(text))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        # What others wrote there must not lead to another file.
        return record if (record.folder, record.name) == (folder, name) else None

    def put(self, record: Record) -> None:
        """Write a record."""
        path = self._path(record.folder, record.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not *.json: half of it is no record.
        fresh = path.with_name(f".{uuid.uuid4().hex}")
        fresh.write_text(json.dumps(asdict(record)), encoding="utf-8")
        fresh.replace(path)

    def add_source(self, record: Record, identity: str) -> Record:
        """Note that a model can be had from another place as well."""
        if identity in record.sources:
            return record
        changed = replace(record, sources=[*record.sources, identity])
        self.put(changed)
        return changed

    def remove(self, record: Record) -> None:
        """Remove a record."""
        self._path(record.folder, record.name).unlink(missing_ok=True)

    def touch(self, record: Record) -> None:
        """Note that a model is used now."""
        with suppress(OSError):  # it only decides what is deleted first
            os.utime(self._path(record.folder, record.name))

    def used_at(self, record: Record) -> float:
        """Return when a model was last used, by the file system's clock."""
        try:
            return self._path(record.folder, record.name).stat().st_mtime
        except OSError:
            return 0.0

    def folders(self) -> list[str]:
        """List the kinds of models that there are records of."""
        return sorted(path.name for path in self._folder.glob("*"))

    def all(self) -> Iterator[Record]:
        """Yield every record."""
        for path in sorted(self._folder.rglob(f"*{ENDING}")):
            parts = path.relative_to(self._folder).parts
            name = "/".join(parts[1:]).removesuffix(ENDING)
            if len(parts) > 1 and (record := self.get(parts[0], name)):
                yield record

    def _path(self, folder: str, name: str) -> Path:
        return self._folder / folder / f"{name}{ENDING}"
