"""All that a worker does about models, behind one door: made once, from the settings."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from worker_comfyui.config import GIGA, Settings
from worker_comfyui.models import catalogue, ensure, jobs, loaders, preload
from worker_comfyui.models.catalogue import Catalogue, Entry
from worker_comfyui.models.ensure import Ensured, Surroundings
from worker_comfyui.models.look import Comfy, Look, Survey, survey
from worker_comfyui.models.policy import Policy
from worker_comfyui.models.reach import connect_public
from worker_comfyui.models.store import Store
from worker_comfyui.models.transfer.progress import Progress
from worker_comfyui.models.transfer.rules import Connect
from worker_comfyui.models.transfer.terms import Caller
from worker_comfyui.volume import fetched


class Models:
    """Fetches what workflows name, reads models early, and does the jobs for the store."""

    def __init__(
        self,
        settings: Settings,
        *,
        own_models: Path | None = None,
        connect: Connect = connect_public,
    ) -> None:
        """Make it; nothing is fetched or listed yet.

        Args:
            settings: All settings.
            own_models: ComfyUI's own models folder, if it is on this machine.
            connect: Connects to public addresses alone.

        Raises:
            ConfigurationError: MODEL_CATALOG cannot be used.
        """
        self._settings = settings
        text = settings.model_catalog
        self._catalogue = catalogue.read(text) if text else Catalogue()
        self._policy = Policy.of(settings, connect)
        limit = settings.model_cache_gb
        self._store = Store(
            fetched.locate(settings),
            volume=settings.runpod_volume_path,
            max_bytes=int(limit * GIGA) if limit else None,
        )
        self._own_models = own_models
        self._preload: preload.Preload | None = None

    def is_needed(self, workflow: Mapping[str, Any], entries: Iterable[Entry] = ()) -> bool:
        """Tell whether `ensure` would have anything to look at. Asks nobody.

        Where there is a store, every model that is named may be one of its own, which is then in
        use.
        """
        if ensure.is_needed(workflow, self._catalogue.having(entries)):
            return True
        has_store = fetched.are_wanted(self._settings) and self._store.location.models.is_dir()
        return has_store and bool(loaders.named(workflow))

    def ensure(
        self,
        workflow: dict[str, Any],
        comfy: Comfy,
        entries: Iterable[Entry],
        tick: Callable[[], None],
        report: Callable[[Progress], None],
    ) -> Ensured:
        """See that the models are there that a workflow names; see `ensure.ensure`.

        Args:
            workflow: In the API format.
            comfy: What ComfyUI has.
            entries: What the request and the workflow's file say of their models.
            tick: Called often; what it raises ends it at once, and what came is kept.
            report: Is told how far it is; `str()` of it is a sentence.
        """
        shared = Surroundings(store=self._store, policy=self._policy, own_models=self._own_models)
        known = self._catalogue.having(entries)
        return ensure.ensure(workflow, comfy, known, shared, Caller(tick, report))

    def look(
        self,
        workflow: Mapping[str, Any],
        comfy: Comfy,
        entries: Iterable[Entry],
        tick: Callable[[], None],
    ) -> Survey:
        """Say which models a workflow names, and whether they are there; fetch none, ask no server.

        Args:
            workflow: In the API format.
            comfy: What ComfyUI has.
            entries: What the request and the workflow's file say of their models.
            tick: Called often; what it raises ends it.
        """
        known = self._catalogue.having(entries)
        return survey(workflow, Look(comfy, known, self._policy, tick))

    def run_job(
        self,
        sent: Mapping[str, Any],
        tick: Callable[[], None],
        say: Callable[[str], None],
    ) -> dict[str, Any]:
        """Do a job for the store; see `jobs`.

        Raises:
            InvalidRequest: it is not allowed, or a field cannot be used.
        """
        job = jobs.parse_job(sent, allowed=self._settings.allow_model_jobs)
        return jobs.ModelJobs(self._store, self._policy, self._catalogue).run(job, tick, say)

    def preload(self, warmup: Mapping[str, Any] | None = None) -> preload.Preload | None:
        """Begin to read models into memory, until `close`; None if nothing names any.

        Args:
            warmup: The warm-up's workflow, in the API format: its models are read as well.
        """
        named = [found.value for found in loaders.named(warmup or {}) if not found.is_url]
        names = dict.fromkeys([*self._settings.preload_models, *named])
        if not names:
            return None
        folders = [
            self._own_models,
            self._settings.runpod_volume_path / "models",
            self._store.location.models,
            self._store.location.links,
        ]
        self._preload = preload.Preload(lambda: preload.find(names, [f for f in folders if f]))
        self._preload.start()
        return self._preload

    def close(self) -> None:
        """Stop reading in advance, and remove this worker's own links."""
        if self._preload:
            self._preload.stop()
        shutil.rmtree(self._store.location.links, ignore_errors=True)
