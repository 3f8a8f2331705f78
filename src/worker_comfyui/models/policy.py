"""What may be fetched: the operator's own entries always, those of others within limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Self
from urllib.parse import urlsplit

from worker_comfyui.config import GIGA, Settings
from worker_comfyui.models.catalogue import Entry, Origin
from worker_comfyui.models.transfer.content import SAFE
from worker_comfyui.models.transfer.errors import Refused
from worker_comfyui.models.transfer.rules import Connect, Rules, Tokens
from worker_comfyui.models.transfer.sources import (
    CIVITAI,
    CIVITAI_HOSTS,
    HUB,
    HUB_HOSTS,
    Source,
    source,
)
from worker_comfyui.wording import shown

ANY_HOST = "*"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the operator allows.

    Attributes:
        allow: Whether entries of requests and workflows count.
        hosts: The hosts that those may name.
        max_bytes: The largest file for those.
        connect: Connects to public addresses alone.
        tokens: Who the operator is at the hub and at Civitai.
        hub: Where the hub is asked.
        civitai: Where Civitai is asked.
    """

    allow: bool
    hosts: frozenset[str]
    max_bytes: int
    connect: Connect
    tokens: Tokens = field(default_factory=Tokens)
    hub: str = HUB
    civitai: str = CIVITAI

    @classmethod
    def of(cls, settings: Settings, connect: Connect) -> Self:
        """Read it from the settings."""
        return cls(
            allow=settings.allow_model_downloads,
            hosts=settings.model_hosts,
            max_bytes=int(settings.model_max_gb * GIGA),
            connect=connect,
            tokens=Tokens(
                hub=settings.hf_token.value if settings.hf_token else None,
                civitai=settings.civitai_token.value if settings.civitai_token else None,
            ),
            hub=settings.hf_endpoint,
            civitai=settings.civitai_endpoint,
        )

    def source(self, entry: Entry) -> Source:
        """Return where an entry's file is had.

        Raises:
            Refused: its URL has none of the forms.
        """
        return source(entry.url, self.hub, self.civitai)

    def check(self, entry: Entry) -> None:
        """Check an entry before its file is asked for.

        Raises:
            Refused: it may not be fetched; with what the operator can do.
        """
        self.check_host(entry)
        # Where the name is not known yet, its server has not been asked.
        is_safe = not entry.name or PurePosixPath(entry.name).suffix.lower() in SAFE
        if entry.origin is not Origin.OPERATOR and not is_safe:
            raise Refused(
                f"{entry.folder}/{entry.name}: only {', '.join(sorted(SAFE))} files are fetched "
                "for requests, since other formats can run code; the operator can put it into "
                "MODEL_CATALOG"
            )

    def check_host(self, entry: Entry) -> None:
        """Check whether an entry's host may be asked, whatever its file is called.

        Raises:
            Refused: it may not; with what the operator can do.
        """
        if entry.origin is Origin.OPERATOR:
            return
        where = shown(entry.url)
        if not self.allow:
            raise Refused(
                f"{where} has the model, but this endpoint does not fetch models that requests "
                "name: its operator can set ALLOW_MODEL_DOWNLOADS=true, or put it into "
                "MODEL_CATALOG"
            )
        host = _named_host(self.source(entry))
        if not self.hosts & {host, ANY_HOST}:
            raise Refused(
                f"{where}: models may be fetched from {', '.join(sorted(self.hosts))} only; the "
                f"operator can add {host} to MODEL_HOSTS"
            )

    def rules(self, entry: Entry) -> Rules:
        """Return whom the transfer of an entry may ask."""
        named = [self.hub, self.civitai]
        if entry.origin is Origin.OPERATOR:
            named.append(self.source(entry).url)
        # The public ones need neither a private address nor plain http.
        trusted = {urlsplit(url).netloc for url in named} - HUB_HOSTS - CIVITAI_HOSTS
        return Rules(
            tokens=self.tokens,
            trusted=frozenset(trusted),
            hub=self.hub,
            civitai=self.civitai,
            connect=self.connect,
        )

    def limit(self, entry: Entry) -> int | None:
        """Return how many bytes an entry's file may have; None: as many as there is room for."""
        return None if entry.origin is Origin.OPERATOR else self.max_bytes

    def safe_only(self, entry: Entry) -> bool:
        """Tell whether only formats that cannot run code are taken."""
        return entry.origin is not Origin.OPERATOR


def _named_host(found: Source) -> str:
    # MODEL_HOSTS names the hub once, whichever of its hosts or mirrors is asked.
    if found.hub:
        return "huggingface.co"
    return "civitai.com" if found.civitai else found.host
