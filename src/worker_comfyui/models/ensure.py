"""Before a workflow is queued: what it names and ComfyUI does not have is fetched.

workflow ─ named ─ missing? ─ catalogue ─ store ─ the same workflow, with files' names in it
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from worker_comfyui.errors import JobError, ModelRefused, ModelUnavailable
from worker_comfyui.models import loaders
from worker_comfyui.models.catalogue import Catalogue, Entry
from worker_comfyui.models.loaders import Named
from worker_comfyui.models.look import Comfy, Look, Wish, failed, where
from worker_comfyui.models.policy import Policy
from worker_comfyui.models.store import Kept, Store
from worker_comfyui.models.transfer.errors import Ended, TransferError
from worker_comfyui.models.transfer.progress import Progress
from worker_comfyui.models.transfer.terms import Caller
from worker_comfyui.models.uses import Use

log = logging.getLogger(__name__)

FILES_AT_ONCE = 2
"""Each is read by several connections; more at once would only share them."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all jobs of a worker share.

    Attributes:
        store: Where models are kept.
        policy: What may be fetched.
        own_models: ComfyUI's own models folder, if it is on this machine: links go there for kinds
            of models that only a node pack knows.
    """

    store: Store
    policy: Policy
    own_models: Path | None = None


@dataclass(kw_only=True)
class Ensured:
    """A workflow all of whose models are there, until it is closed.

    Attributes:
        workflow: With files' names where URLs stood, or names that were given to other content.
        fetched: What was fetched, or found in the platform's cache, for the result.
        missing: What ComfyUI does not list, and nobody says where it can be had: advice by name.
        seconds: How long it took.
    """

    workflow: dict[str, Any]
    fetched: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    use: Use | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the models be deleted again."""
        if self.use:
            self.use.close()


def is_needed(workflow: Mapping[str, Any], catalogue: Catalogue) -> bool:
    """Tell whether there is anything to look at: a URL, or names and a catalogue. Costs nothing."""
    found = loaders.named(workflow)
    if any(named.is_url for named in found):
        return True
    return bool(len(catalogue) and (found or loaders.embeddings(workflow)))


def ensure(
    workflow: dict[str, Any],
    comfy: Comfy,
    catalogue: Catalogue,
    shared: Surroundings,
    caller: Caller,
) -> Ensured:
    """See that all models are there that a workflow names.

    Args:
        workflow: In the API format.
        comfy: What ComfyUI has.
        catalogue: Where models can be had.
        shared: What all jobs share.
        caller: Who waits: `tick` raises when the job is cancelled or its time is over, and
            `report` is given the progress.

    Raises:
        ModelRefused: one may not be had, or is not what it should be.
        ModelUnavailable: one could not be fetched now.
    """
    started = time.monotonic()
    look = Look(comfy, catalogue, shared.policy, caller.tick)
    result = Ensured(workflow=workflow, use=shared.store.use())
    try:
        models = loaders.named(workflow)
        _keep(models, shared.store, result.use)
        wishes = look.wishes(models, loaders.embeddings(workflow))
        result.missing = look.missing
        kept = _Fetching(shared, comfy, result, caller).all(wishes)
        result.workflow = _with_names(workflow, wishes, kept)
        result.fetched = [_fact(k) for k in dict.fromkeys(kept.values()) if k.how != "kept"]
        result.seconds = time.monotonic() - started
    except BaseException:
        result.close()
        raise
    return result


def _keep(models: Sequence[Named], store: Store, use: Use | None) -> None:
    """See that none of the store's models is deleted which the workflow names, before looking."""
    try:
        for named in models:
            if use and not named.is_url:
                folder = loaders.FOLDERS.get(named.class_type, {}).get(named.input)
                store.keep(named.value, folder, use)
    except OSError as error:
        # What is there may be used all the same.
        log.warning("the store of models cannot be written: %s", error)


class _Fetching:
    """Fetches what is wished for, a few at once."""

    def __init__(self, shared: Surroundings, comfy: Comfy, result: Ensured, caller: Caller) -> None:
        self._shared = shared
        self._comfy = comfy
        self._use = result.use or shared.store.use()
        self._caller = caller
        self._lock = threading.Lock()
        self._over = threading.Event()

    def all(self, wishes: Sequence[Wish]) -> dict[tuple[Entry, ...], Kept]:
        distinct = {wish.entries: wish for wish in wishes}
        if not distinct:
            return {}
        with ThreadPoolExecutor(min(FILES_AT_ONCE, len(distinct)), "models") as pool:
            running = {key: pool.submit(self._one, wish) for key, wish in distinct.items()}
            failures = [f.exception() for f in running.values()]
        # The first failure made the others end.
        for failure in sorted(filter(None, failures), key=lambda f: isinstance(f, Ended)):
            raise failure
        return {key: future.result() for key, future in running.items()}

    def _one(self, wish: Wish) -> Kept:
        try:
            self._tick()  # those that wait behind one that failed end before they begin
            kept = self._first(wish)
            if not wish.in_text:
                self._show(wish.named, kept)
        except OSError as error:
            self._over.set()
            raise ModelUnavailable(
                f"{where(wish.named)}: the store of models cannot be used: "
                f"{error.strerror or error}"
            ) from error
        except BaseException:
            self._over.set()
            raise
        return kept

    def _first(self, wish: Wish) -> Kept:
        """Try one entry after the other; if none works, the first one's reason counts."""
        failures: list[JobError] = []
        caller = Caller(self._tick, self._report)
        for entry in wish.entries:
            try:
                return self._shared.store.ensure(
                    entry, self._shared.policy, self._use, caller, self._is_taken
                )
            except TransferError as error:
                failures.append(failed(wish.named, error))
        raise failures[0]

    def _show(self, named: Named, kept: Kept) -> None:
        """See that ComfyUI lists the file, also where only a node pack knows its kind."""
        if self._is_listed(named, kept):
            return
        if self._shared.own_models:
            _link(self._shared.own_models / kept.folder / kept.name, kept.path)
            if self._is_listed(named, kept):
                return
        raise ModelRefused(
            f"{where(named)}: {kept.name} was fetched into {kept.folder}, but this input does not "
            "list it: give the `folder` that the node reads"
        )

    def _is_listed(self, named: Named, kept: Kept) -> bool:
        with self._lock:  # ComfyUI's client is for one thread at a time
            definition = self._comfy.node_class(named.class_type)
        return kept.name in (loaders.choices(definition, named.input) or ())

    def _is_taken(self, folder: str, name: str) -> bool:
        with self._lock:
            return name in self._comfy.models(folder)

    def _tick(self) -> None:
        self._caller.tick()
        if self._over.is_set():
            raise Ended

    def _report(self, progress: Progress) -> None:
        with self._lock:
            self._caller.report(progress)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() != target:
        link.unlink()
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(target)


def _with_names(
    workflow: dict[str, Any], wishes: Sequence[Wish], kept: Mapping[tuple[Entry, ...], Kept]
) -> dict[str, Any]:
    changed = dict(workflow)
    for wish in wishes:
        node_id, name = wish.named.node_id, kept[wish.entries].name
        if name != wish.named.value and not wish.in_text:
            node = changed[node_id]
            changed[node_id] = {**node, "inputs": {**node["inputs"], wish.named.input: name}}
    return changed


def _fact(kept: Kept) -> dict[str, Any]:
    return {
        "folder": kept.folder,
        "name": kept.name,
        "url": kept.url,
        "bytes": kept.bytes,
        "received_bytes": kept.received,
        "from": kept.how,
    }
