"""The models that the worker fetched: kept once for all workers that share the disk.

ROOT/models/FOLDER/NAME      what ComfyUI lists: whole files alone
ROOT/index/FOLDER/NAME.json  what each is, and when it was used
ROOT/partial, ROOT/leases    what is being fetched, and by whom
ROOT/uses                    what jobs use now
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from worker_comfyui.models import cached
from worker_comfyui.models.catalogue import Entry
from worker_comfyui.models.index import Index, Record
from worker_comfyui.models.policy import Policy
from worker_comfyui.models.transfer import content
from worker_comfyui.models.transfer.deliver import Place, Workshop, deliver
from worker_comfyui.models.transfer.errors import NoRoom, TransferError
from worker_comfyui.models.transfer.fetch import ask
from worker_comfyui.models.transfer.progress import size
from worker_comfyui.models.transfer.remote import Remote
from worker_comfyui.models.transfer.sources import Source
from worker_comfyui.models.transfer.terms import Caller, Fetched, Means, Wanted
from worker_comfyui.models.unfinished import Unfinished
from worker_comfyui.models.uses import Use, in_use
from worker_comfyui.volume.fetched import Location
from worker_comfyui.wording import shown

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A model that is there now.

    Attributes:
        folder: Its kind.
        name: Its name there, which may be another than was asked for: one name has one content.
        path: Where it lies.
        url: Where it came from, without a query.
        bytes: Its length.
        received: Bytes that came over the network for it now.
        how: `kept` (it was there), `cached` (the platform had it), or `fetched`.
    """

    folder: str
    name: str
    path: Path
    url: str
    bytes: int
    received: int
    how: str


class _OtherContent(Exception):
    """The name was given to a file of other content meanwhile."""


class Store:
    """Fetches models, keeps them within bounds, and knows what it has."""

    def __init__(
        self,
        location: Location,
        *,
        volume: Path,
        max_bytes: int | None = None,
        workshop: Workshop | None = None,
    ) -> None:
        """Make it; nothing is read or written before it is used.

        Args:
            location: Where it lies.
            volume: Where the network volume is mounted, for what the platform cached there.
            max_bytes: How much it may keep.
            workshop: Where files are made; by default in its own root.
        """
        self.location = location
        self.index = Index(location.root / "index")
        self._workshop = workshop or Workshop(folder=location.root)
        self.unfinished = Unfinished(self._workshop)
        self._uses = location.root / "uses"
        self._volume = volume
        self.max_bytes = max_bytes

    def use(self) -> Use:
        """Begin to use models: none of them is deleted before it is closed."""
        return Use(self._uses, beat_s=self._workshop.beat_s)

    def keep(self, name: str, folder: str | None, use: Use) -> None:
        """Note that a job uses a model by its name, if it is one of the store's.

        Args:
            name: Its name in ComfyUI.
            folder: Its kind; None: any that has such a name.
            use: Is told of it.

        Raises:
            OSError: the store cannot be written.
        """
        for kind in [folder] if folder else self.index.folders():
            if record := self._record(kind, name):
                use.add(record.title)
                self.index.touch(record)

    def path(self, record: Record) -> Path:
        """Return where a model lies."""
        return self.location.models / record.folder / record.name

    def ensure(
        self, entry: Entry, policy: Policy, use: Use, caller: Caller, is_taken: IsTaken
    ) -> Kept:
        """See that a model is there: find it, or fetch it.

        Args:
            entry: Which.
            policy: What may be fetched.
            use: Is told of the model.
            caller: Who waits.
            is_taken: Tells whether ComfyUI has a file of a name that is not the store's.

        Raises:
            TransferError: it cannot be had.
            OSError: the store cannot be written.
        """
        policy.check(entry)
        source = policy.source(entry)
        if (found := cached.find(source, self._volume)) and _is_intact(found, entry):
            return self._link(entry, found, is_taken)
        record = self._kept(entry, source)
        if record is None:
            remote = ask(source, Means(rules=policy.rules(entry)), caller.tick)
            record = self._same_bytes(entry, source, remote)
            if record is None:
                return self._fetch(entry, remote, policy, use, caller, is_taken)
        use.add(record.title)
        self.index.touch(record)
        return self._as_kept(record)

    def _as_kept(self, record: Record) -> Kept:
        return Kept(
            folder=record.folder,
            name=record.name,
            path=self.path(record),
            url=record.url,
            bytes=record.bytes,
            received=0,
            how="kept",
        )

    def _names(self, entry: Entry, identity: str) -> Iterator[str]:
        """Yield the names under which an entry's file may be kept: its own, then a longer one."""
        yield entry.name
        mark = hashlib.sha256((entry.sha256 or identity).encode()).hexdigest()[:8]
        path = PurePosixPath(entry.name)
        yield str(path.with_name(f"{path.stem}.{mark}{path.suffix}"))

    def _record(self, folder: str, name: str) -> Record | None:
        record = self.index.get(folder, name)
        if record is None:
            return None
        try:
            is_whole = self.path(record).stat().st_size == record.bytes
        except OSError:
            return None
        return record if is_whole else None

    def _kept(self, entry: Entry, source: Source) -> Record | None:
        """Return the entry's file if it is here, as far as that is known without asking."""
        for name in self._names(entry, source.identity):
            record = self._record(entry.folder, name)
            if record and _means(entry, source, record):
                return record
        return None

    def _same_bytes(self, entry: Entry, source: Source, remote: Remote) -> Record | None:
        """Return a file from elsewhere that has the very bytes of the entry's."""
        record = self._record(entry.folder, entry.name)
        if record and remote.sha256 == record.sha256 == (entry.sha256 or record.sha256):
            return self.index.add_source(record, source.identity)
        return None

    def _fetch(  # noqa: PLR0913, PLR0917 - what one model needs
        self,
        entry: Entry,
        remote: Remote,
        policy: Policy,
        use: Use,
        caller: Caller,
        is_taken: IsTaken,
    ) -> Kept:
        source = policy.source(entry)
        for name in self._names(entry, source.identity):
            record = self._record(entry.folder, name)
            is_other = record is not None and not _means(entry, source, record)
            if is_other or (record is None and is_taken(entry.folder, name)):
                continue
            with suppress(_OtherContent):
                return self._fetch_as(name, entry, remote, policy, use, caller)
        raise _no_name(entry)

    def _fetch_as(  # noqa: PLR0913, PLR0917 - as above
        self, name: str, entry: Entry, remote: Remote, policy: Policy, use: Use, caller: Caller
    ) -> Kept:
        source = policy.source(entry)
        wanted = Wanted(
            source=source,
            name=name,
            sha256=entry.sha256,
            bytes=entry.bytes,
            max_bytes=policy.limit(entry),
            safe_only=policy.safe_only(entry),
            remote=remote,
        )

        def is_there() -> bool:
            record = self._record(entry.folder, name)
            if record and not _means(entry, source, record):  # somebody was faster
                raise _OtherContent
            return record is not None

        def note(fetched: Fetched) -> None:
            self.index.put(
                Record(
                    folder=entry.folder,
                    name=name,
                    bytes=fetched.size,
                    sha256=fetched.sha256,
                    # By the branch that was asked for and by its commit: either finds it again.
                    sources=sorted({source.identity, fetched.identity}),
                    url=shown(source.url),
                )
            )

        path = self.location.models / entry.folder / name
        place = Place(path=path, is_there=is_there, before=note)
        # Now, since as soon as it is there another worker that needs room may delete it.
        use.add(f"{entry.folder}/{name}")
        self._make_room((remote.size or 0) - self.unfinished.bytes(place.key))
        means = Means(rules=policy.rules(entry))
        fetched = deliver(wanted, place, self._workshop, means, caller)
        record = self._record(entry.folder, name)
        if record is None:
            raise NoRoom(f"{entry.folder}/{name} was deleted while it was fetched: try again")
        if fetched is None:
            return self._as_kept(record)
        log.info(
            "fetched %s from %s, %s",
            record.title,
            record.url,
            size(record.bytes),
            extra={"event": "model_fetched", "bytes": record.bytes},
        )
        return replace(self._as_kept(record), received=fetched.received, how="fetched")

    def _link(self, entry: Entry, file: Path, is_taken: IsTaken) -> Kept:
        """Give a file that the platform cached its name, for this worker alone."""
        for name in self._names(entry, str(file)):
            link = self.location.links / entry.folder / name
            # One that leads nowhere stays in ComfyUI's list, and its loader fails.
            if link.is_symlink() and not link.exists():
                link.unlink()
            if not link.is_symlink() and not is_taken(entry.folder, name):
                link.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    link.symlink_to(file)
            if link.is_symlink() and link.readlink() == file:
                return Kept(
                    folder=entry.folder,
                    name=name,
                    path=link,
                    url=shown(entry.url),
                    bytes=file.stat().st_size,
                    received=0,
                    how="cached",
                )
        raise _no_name(entry)

    def delete(self, record: Record) -> None:
        """Delete one model of the store."""
        self.path(record).unlink(missing_ok=True)
        self.index.remove(record)

    def is_in_use(self, record: Record) -> bool:
        """Tell whether any job uses a model."""
        return record.title in in_use(self._uses)

    def _make_room(self, needed: int) -> None:
        """Delete the least recently used models until `needed` more bytes are within the bound.

        Raises:
            NoRoom: too much is in use; nothing was deleted.
        """
        if self.max_bytes is None:
            return
        self.unfinished.remove_old()
        records = list(self.index.all())
        over = sum(r.bytes for r in records) + self.unfinished.bytes() + needed - self.max_bytes
        if over <= 0:
            return
        used = in_use(self._uses)
        idle = sorted((r for r in records if r.title not in used), key=self.index.used_at)
        if sum(record.bytes for record in idle) < over:
            raise NoRoom(
                f"{size(needed)} more are needed, and fetched models may take "
                f"{size(self.max_bytes)} together (MODEL_CACHE_GB), of which too much is in use: "
                "raise it, or delete models"
            )
        for record in idle:
            if over > 0:
                self.delete(record)
                log.info("deleted %s, not used for longest", record.title)
                over -= record.bytes


IsTaken = Callable[[str, str], bool]
"""(folder, name) → whether ComfyUI lists such a file from somewhere else."""


def _means(entry: Entry, source: Source, record: Record) -> bool:
    """Tell whether a record is the entry's file: by hash where it is known, else by its source."""
    if entry.sha256:
        return entry.sha256 == record.sha256
    return source.identity in record.sources


def _no_name(entry: Entry) -> NoRoom:
    return NoRoom(f"{entry.folder}/{entry.name}: files of other content have its names already")


def _is_intact(file: Path, entry: Entry) -> bool:
    try:
        content.check(file, entry.name, safe_only=False)
    except (TransferError, OSError) as error:
        log.warning("the cached file %s is not used: %s", file, error)
        return False
    return True
