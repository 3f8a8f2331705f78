"""Jobs for the store itself, so that nobody has to rent a machine to look into a volume.

{"input": {"models": "list"}}                                   what is there
{"input": {"models": "usage"}}                                  how much it takes
{"input": {"models": "verify", "names": ["loras/x.safetensors"]}}   hashes; all without names
{"input": {"models": "fetch", "entries": [{folder, name, url}]}}    the catalogue without entries
{"input": {"models": "delete", "names": ["loras/x.safetensors"]}}   of the store's own files
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from worker_comfyui.errors import Detail, InvalidRequest, JobError, ModelRefused, ModelUnavailable
from worker_comfyui.models.catalogue import Catalogue, Entry, Origin, parse
from worker_comfyui.models.ensure import FILES_AT_ONCE
from worker_comfyui.models.index import Record
from worker_comfyui.models.policy import Policy
from worker_comfyui.models.store import Kept, Store
from worker_comfyui.models.transfer.errors import TransferError
from worker_comfyui.models.transfer.fetch import sha256
from worker_comfyui.models.transfer.progress import size
from worker_comfyui.models.transfer.terms import Caller

ACTIONS = ("list", "usage", "verify", "fetch", "delete")
FIELDS = {"verify": "names", "delete": "names", "fetch": "entries"}
MAX_NAMES = 2000


@dataclass(frozen=True, slots=True)
class ModelJob:
    """What a job wants to know or to have done.

    Attributes:
        action: One of `ACTIONS`.
        names: `folder/name` of the models that are meant; empty: all.
        entries: What to fetch; empty: the operator's catalogue.
    """

    action: str
    names: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()


def parse_job(sent: Mapping[str, Any], *, allowed: bool) -> ModelJob:
    """Read the input of such a job.

    Args:
        sent: `input` of the request.
        allowed: ALLOW_MODEL_JOBS.

    Raises:
        InvalidRequest: it is not allowed, or a field cannot be used.
    """
    if not allowed:
        raise InvalidRequest(
            "models: this endpoint takes no jobs for its models; its operator can set "
            "ALLOW_MODEL_JOBS=true"
        )
    problems: list[Detail] = []
    action = sent.get("models")
    if action not in ACTIONS:
        said = f"must be one of {', '.join(ACTIONS)}, or a list of models beside a workflow"
        problems.append({"path": "models", "message": said})
    field = FIELDS.get(str(action))
    for name in sent:
        if name not in {"models", field}:
            known = f"`models` and `{field}`" if field else "`models`"
            problems.append({"path": str(name)[:80], "message": f"is unknown beside {known}"})
    names = _names(sent.get("names"), problems) if field == "names" else ()
    if action == "delete" and not names and not problems:
        problems.append({"path": "names", "message": "must name what to delete"})
    entries: list[Entry] = []
    if field == "entries" and sent.get("entries") is not None:
        entries = parse(sent["entries"], "entries", Origin.REQUEST, problems)
    if problems:
        shown = "; ".join(f"{problem['path']} {problem['message']}" for problem in problems[:5])
        raise InvalidRequest(shown, problems)
    return ModelJob(str(action), names, tuple(entries))


def _names(sent: Any, problems: list[Detail]) -> tuple[str, ...]:
    if sent is None:
        return ()
    if isinstance(sent, list) and len(sent) <= MAX_NAMES and all(map(_is_title, sent)):
        return tuple(sent)
    said = f"must be a list of at most {MAX_NAMES} names like loras/model.safetensors"
    problems.append({"path": "names", "message": said})
    return ()


def _is_title(value: Any) -> bool:
    return isinstance(value, str) and "/" in value and len(value) < 1000


class ModelJobs:
    """Does these jobs on one store."""

    def __init__(self, store: Store, policy: Policy, catalogue: Catalogue) -> None:
        self._store = store
        self._policy = policy
        self._catalogue = catalogue

    def run(
        self, job: ModelJob, tick: Callable[[], None], say: Callable[[str], None]
    ) -> dict[str, Any]:
        """Do it.

        Args:
            job: What.
            tick: Called often; what it raises ends it.
            say: Is told how far it is.

        Returns:
            `{"models": {"action": ..., ...}}`, as docs/models.md describes it.

        Raises:
            ModelRefused, ModelUnavailable: nothing of what was to be fetched could be had.
        """
        actions: dict[str, Callable[[], dict[str, Any]]] = {
            "list": self._list,
            "usage": self._usage,
            "verify": lambda: self._verify(job.names, tick, say),
            "fetch": lambda: self._fetch(job.entries, tick, say),
            "delete": lambda: self._delete(job.names),
        }
        return {"models": {"action": job.action, **actions[job.action]()}}

    def _list(self) -> dict[str, Any]:
        files = [self._described(record) for record in self._store.index.all()]
        return {"store": str(self._store.location.root), "files": files}

    def _described(self, record: Record) -> dict[str, Any]:
        used_at = datetime.fromtimestamp(self._store.index.used_at(record), UTC)
        return {
            "folder": record.folder,
            "name": record.name,
            "bytes": record.bytes,
            "sha256": record.sha256,
            "url": record.url,
            "used_at": used_at.isoformat(timespec="seconds"),
            "in_use": self._store.is_in_use(record),
        }

    def _usage(self) -> dict[str, Any]:
        records = list(self._store.index.all())
        root = self._store.location.root
        found = {
            "store": str(root),
            "files": len(records),
            "bytes": sum(record.bytes for record in records),
            "unfinished_files": len(self._store.unfinished.all()),
            "unfinished_bytes": self._store.unfinished.bytes(),
            "limit_bytes": self._store.max_bytes,
        }
        # Of a network volume it says what the whole cluster has, not what was rented.
        free = shutil.disk_usage(root).free if root.is_dir() else None
        return {**found, "disk_free_bytes": free}

    def _verify(
        self, names: Sequence[str], tick: Callable[[], None], say: Callable[[str], None]
    ) -> dict[str, Any]:
        records = self._chosen(names)
        missing = set(names) - {record.title for record in records}
        files = [_fact(title, "it is not in the store") for title in sorted(missing)]
        for number, record in enumerate(records, start=1):
            say(f"checking {record.title}, {number} of {len(records)}, {size(record.bytes)}")
            files.append(_fact(record.title, self._problem(record, tick)))
        return {"files": files, "damaged": sum(not file["ok"] for file in files)}

    def _problem(self, record: Record, tick: Callable[[], None]) -> str | None:
        path = self._store.path(record)
        try:
            length = path.stat().st_size
            if length != record.bytes:
                return f"it has {length} bytes instead of {record.bytes}: delete and fetch it again"
            if sha256(path, tick) != record.sha256:
                return "its content has changed: delete and fetch it again"
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        return None

    def _fetch(
        self, entries: Sequence[Entry], tick: Callable[[], None], say: Callable[[str], None]
    ) -> dict[str, Any]:
        wanted = list(entries or self._catalogue)
        caller = Caller(tick, lambda progress: say(str(progress)))
        files: list[dict[str, Any]] = []
        failures: list[tuple[Entry, TransferError]] = []
        with self._store.use() as use, ThreadPoolExecutor(FILES_AT_ONCE) as pool:

            def one(entry: Entry) -> Kept | TransferError:
                try:
                    return self._store.ensure(entry, self._policy, use, caller, _is_free)
                except TransferError as error:
                    return error

            for entry, outcome in zip(wanted, pool.map(one, wanted), strict=True):
                if isinstance(outcome, TransferError):
                    failures.append((entry, outcome))
                else:
                    files.append(_kept(outcome))
        if failures and not files:
            raise _failed(failures)
        errors = [f"{entry.folder}/{entry.name}: {error}" for entry, error in failures]
        return {"files": files, **({"errors": errors} if errors else {})}

    def _delete(self, names: Sequence[str]) -> dict[str, Any]:
        records = {record.title: record for record in self._chosen(names)}
        files = []
        for name in names:
            record = records.get(name)
            problem = None if record else "it is not one of the store's own files"
            if record and self._store.is_in_use(record):
                problem = "a job uses it now: try again later"
            if record and not problem:
                self._store.delete(record)
            files.append(_fact(name, problem))
        return {"files": files}

    def _chosen(self, names: Iterable[str]) -> list[Record]:
        wanted = set(names)
        return [r for r in self._store.index.all() if not wanted or r.title in wanted]


def _is_free(_folder: str, _name: str) -> bool:
    return False


def _fact(title: str, problem: str | None) -> dict[str, Any]:
    folder, _, name = title.partition("/")
    fact = {"folder": folder, "name": name, "ok": problem is None}
    return fact if problem is None else {**fact, "problem": problem}


def _kept(kept: Kept) -> dict[str, Any]:
    return {
        "folder": kept.folder,
        "name": kept.name,
        "bytes": kept.bytes,
        "url": kept.url,
        "from": kept.how,
    }


def _failed(failures: Sequence[tuple[Entry, TransferError]]) -> JobError:
    details: list[Detail] = [{"path": e.path, "message": str(error)} for e, error in failures]
    kind = ModelUnavailable if all(e.retryable for _, e in failures) else ModelRefused
    return kind(str(details[0]["message"]), details)
