"""Compares the models that a workflow names with those that ComfyUI has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Protocol

from worker_comfyui.errors import Detail, JobError, ModelRefused, ModelUnavailable, sentence
from worker_comfyui.models import loaders
from worker_comfyui.models.catalogue import Catalogue, Entry, Origin, line_to_add, name_fault
from worker_comfyui.models.loaders import EMBEDDINGS, Named
from worker_comfyui.models.policy import Policy
from worker_comfyui.models.transfer.errors import Refused, TransferError
from worker_comfyui.models.transfer.fetch import ask
from worker_comfyui.models.transfer.terms import Means

WANTED = "would be fetched"


class Comfy(Protocol):
    """What ComfyUI says of its nodes and models now."""

    def node_class(self, class_type: str) -> Mapping[str, Any] | None:
        """Return a class' entry of /object_info; None if there is none."""

    def model_folders(self) -> Sequence[str]:
        """Return the answer of GET /models."""

    def models(self, folder: str) -> Sequence[str]:
        """Return the answer of GET /models/FOLDER; empty for an unknown folder."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A model that is to be had: by any of these entries, the first that works."""

    named: Named
    entries: tuple[Entry, ...]
    in_text: bool = False
    """Whether a text names it: then nothing is put in the value's place."""


class Look:
    """Compares what a workflow names with what there is."""

    def __init__(
        self, comfy: Comfy, catalogue: Catalogue, policy: Policy, tick: Callable[[], None]
    ) -> None:
        self._comfy = comfy
        self._catalogue = catalogue
        self._policy = policy
        self._tick = tick
        self._classes: dict[str, Mapping[str, Any] | None] = {}
        self._folders: dict[str, Sequence[str]] | None = None
        self.missing: dict[str, str] = {}

    def wishes(self, models: Iterable[Named], embeddings: Iterable[Named]) -> list[Wish]:
        """Return all that is to be fetched.

        Raises:
            ModelRefused: some of it may not be; with all that is known before a server is asked.
            ModelUnavailable: a server could not be asked now.
        """
        refused: list[Detail] = []
        found = [_found(self.wish, named, refused) for named in models]
        found += [_found(self.embedding, named, refused) for named in embeddings]
        if refused:
            raise ModelRefused.of(refused)
        return [self._called(wish) for wish in found if wish]

    def choices(self, named: Named) -> list[str] | None:
        """Return what ComfyUI lists for an input; None if it is no choice."""
        if named.class_type not in self._classes:
            self._classes[named.class_type] = self._comfy.node_class(named.class_type)
        return loaders.choices(self._classes[named.class_type], named.input)

    def wish(self, named: Named) -> Wish | None:
        """Return what is to be fetched for an input; None if nothing is, or nothing can be.

        Where only its server knows what the file of a URL is called, the entry's name is empty.

        Raises:
            ModelRefused: it may not be fetched.
        """
        listed = self.choices(named)
        if listed is None:  # no choice among files: a node that takes URLs by itself, or a text
            return None
        if not named.is_url:
            return self._by_name(named, listed)
        return self._allowed(Wish(named, (self._by_url(named, listed),)))

    def embedding(self, named: Named) -> Wish | None:
        """Return what is to be fetched for an embedding that a text names.

        Raises:
            ModelRefused: it may not be fetched.
        """
        listed = self._comfy.models(EMBEDDINGS)
        # ComfyUI finds it without its ending too (comfy/sd1_clip.py, load_embed).
        if any(named.value in {name, str(PurePosixPath(name).with_suffix(""))} for name in listed):
            return None
        known = [entry for entry in self._catalogue if entry.folder == EMBEDDINGS]
        fitting = [e for e in known if named.value in {e.name, PurePosixPath(e.name).stem}]
        return self._allowed(Wish(named, tuple(fitting), in_text=True)) if fitting else None

    def _allowed(self, wish: Wish) -> Wish:
        """Return a wish of which one entry at least may be fetched, as far as that is known."""
        refused: list[Refused] = []
        for entry in wish.entries:
            try:
                self._policy.check(entry)
            except Refused as error:
                refused.append(error)
            else:
                return wish
        raise failed(wish.named, refused[0])

    def _by_name(self, named: Named, listed: Sequence[str] | None) -> Wish | None:
        if listed is None or named.value in listed:
            return None
        folder = self._folder(named, listed)
        entries = self._catalogue.find(named.value, folder)
        own_name = named.value.replace("\\", "/")
        if entries and not name_fault(own_name):
            # Under the workflow's own name, which may have folders that the entry has not.
            own = tuple(replace(entry, name=own_name) for entry in entries)
            return self._allowed(Wish(named, own))
        self.missing[named.value] = (
            "nobody says where it can be had: add it to `input.models` of the request, or the "
            f"operator to MODEL_CATALOG: {line_to_add(folder or 'FOLDER', own_name)}"
        )
        return None

    def _by_url(self, named: Named, listed: Sequence[str]) -> Entry:
        known = [entry for entry in self._catalogue if entry.url == named.value]
        if known:
            return known[0]
        folder = self._folder(named, listed)
        if folder is None:
            unknown = Refused(
                "it cannot be told which kind of model this input takes; name the file, and add it "
                "to `input.models` with its `folder`"
            )
            raise failed(named, unknown)
        entry = Entry(
            folder=folder,
            name="",
            url=named.value,
            origin=Origin.REQUEST,
            path=f"workflow.{named.node_id}.inputs.{named.input}",
        )
        try:
            source = self._policy.source(entry)
        except Refused as error:
            raise failed(named, error) from error
        is_called = not source.civitai and not name_fault(source.name)
        return replace(entry, name=source.name) if is_called else entry

    def _called(self, wish: Wish) -> Wish:
        """Ask what the file of a wish is called, where nothing says it."""
        entry = wish.entries[0]
        if entry.name:
            return wish
        try:
            means = Means(rules=self._policy.rules(entry))
            name = ask(self._policy.source(entry), means, self._tick).filename
            if fault := name_fault(name):
                raise Refused(f"the file of this URL has no usable name, which {fault}")
        except TransferError as error:
            raise failed(wish.named, error) from error
        return self._allowed(replace(wish, entries=(replace(entry, name=name),)))

    def _folder(self, named: Named, listed: Sequence[str]) -> str | None:
        return loaders.folder_of(named.class_type, named.input, listed, self._all)

    def _all(self) -> Mapping[str, Sequence[str]]:
        if self._folders is None:
            self._folders = {f: self._comfy.models(f) for f in self._comfy.model_folders()}
        return self._folders


@dataclass(frozen=True, slots=True)
class Survey:
    """What a dry run says of a workflow's models.

    Attributes:
        models: `{"node_id", "input", "name", "status"}` each; the status is `here`, `would be
            fetched` or `missing`.
        refused: Why some that are missing may not be fetched.
        advice: What to do about the others, by name.
    """

    models: list[dict[str, Any]]
    refused: list[Detail]
    advice: Mapping[str, str]


def survey(workflow: Mapping[str, Any], look: Look) -> Survey:
    """Say which models a workflow names, and what would become of them."""
    models: list[dict[str, Any]] = []
    refused: list[Detail] = []

    def tell(named: Named, status: str) -> None:
        place = {"node_id": named.node_id, "input": named.input, "name": named.value}
        models.append({**place, "status": status})

    for named in loaders.named(workflow):
        listed = look.choices(named)
        if listed is not None and named.value in listed:
            tell(named, "here")
        elif listed is not None:
            tell(named, WANTED if _found(look.wish, named, refused) else "missing")
    for named in loaders.embeddings(workflow):
        if _found(look.embedding, named, refused):
            tell(named, WANTED)
    return Survey(models, refused, look.missing)


def _found(
    find: Callable[[Named], Wish | None], named: Named, refused: list[Detail]
) -> Wish | None:
    """Return what is to be fetched; why it may not be goes to those that are refused."""
    try:
        return find(named)
    except ModelRefused as error:
        refused += error.details
        return None


def where(named: Named) -> str:
    """Name a workflow's input, for messages."""
    place: Detail = {"node_id": named.node_id, "class_type": named.class_type, "input": named.input}
    return sentence({**place, "message": ""}).rstrip(": ")


def failed(named: Named, error: TransferError) -> JobError:
    """Turn a transfer's error into the job's, with the input that named the model."""
    detail: Detail = {
        "node_id": named.node_id,
        "class_type": named.class_type,
        "input": named.input,
        "message": str(error),
    }
    kind = ModelUnavailable if error.retryable else ModelRefused
    return kind(sentence(detail), [detail])
