"""The forms in which a file is named, and the URL that each stands for. Pure.

Forms of the hub: https://huggingface.co/docs/hub/models-downloading; of Civitai:
https://developer.civitai.com/docs/api/public-rest and https://developer.civitai.com/site/guide/air.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlencode, urlsplit

from worker_comfyui.models.transfer.errors import Refused
from worker_comfyui.models.transfer.wording import shown

HUB = "https://huggingface.co"
HUB_HOSTS = frozenset(("huggingface.co", "www.huggingface.co", "hf.co"))
CIVITAI = "https://civitai.com"
CIVITAI_HOSTS = frozenset(("civitai.com", "www.civitai.com", "civitai.red", "www.civitai.red"))
SCHEMES = ("https", "http", "hf", "civitai")
MAX_URL = 4000
KINDS = ("datasets", "spaces")
"""What stands before OWNER/NAME of a repository that holds no model."""
MAX_CONNECTIONS = 8

_AIR = re.compile(
    r"(?:urn:)?(?:air:)?[\w.-]+:[\w.-]+:civitai:\d+@(\d+)(?:\+(\d+))?(?:\.\w+)?", re.IGNORECASE
)
_CIVITAI_FILE = ("type", "format", "size", "fp", "fileId")


@dataclass(frozen=True, slots=True)
class Source:
    """Where one file is had.

    Attributes:
        url: What is asked first.
        identity: What the file is called wherever it is asked: without queries, which change with
            each signature, and without the mirror's host.
        name: The last part of its path, which may be no file name.
        connections: How many may read it at once. Civitai's front answers 403 to many.
        hub: `(repository, revision, path)` of a file of the Hugging Face hub.
        civitai: `(version, file)` of a file of Civitai; the second may be empty.
    """

    url: str
    identity: str
    name: str
    connections: int
    hub: tuple[str, str, str] | None = None
    civitai: tuple[str, str] | None = None

    @property
    def host(self) -> str:
        """The host that is asked first."""
        return urlsplit(self.url).hostname or ""


def is_source(text: str) -> bool:
    """Tell whether a text has one of the forms, valid or not, rather than being a file's name."""
    return any(text.lower().startswith(f"{scheme}://") for scheme in SCHEMES) or bool(
        _AIR.fullmatch(text)
    )


def source(text: str, hub: str = HUB, civitai: str = CIVITAI) -> Source:
    """Read one of the forms.

    Args:
        text: A URL, `hf://OWNER/NAME/PATH[@REVISION]`, `civitai://VERSION`, or an AIR of Civitai.
        hub: Where the hub is asked: a mirror, where there is one.
        civitai: Where Civitai is asked.

    Raises:
        Refused: it has none of the forms.
    """
    if air := _AIR.fullmatch(text):
        return _civitai(air[1], {"fileId": air[2]} if air[2] else {}, civitai)
    parts = _split(text)
    if parts.scheme == "hf":
        return _hf(parts, hub)
    if parts.scheme == "civitai":
        return _civitai_scheme(parts, civitai)
    if parts.hostname in HUB_HOSTS or _is_at(parts, hub):
        return _hub_url(parts, hub)
    if parts.hostname in CIVITAI_HOSTS or _is_at(parts, civitai):
        return _civitai_url(parts, civitai)
    path = unquote(parts.path)
    return Source(
        url=parts._replace(fragment="").geturl(),
        identity=f"{parts.hostname}{path}",
        name=PurePosixPath(path).name,
        # Hosts that nothing is known of may take many for an attack.
        connections=MAX_CONNECTIONS // 2,
    )


def hub_url(repository: str, revision: str, path: str, hub: str = HUB) -> str:
    """Return the address of a file of the hub."""
    return f"{hub}/{quote(repository)}/resolve/{quote(revision, safe='')}/{quote(path)}"


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or len(text) > MAX_URL or not text.isprintable() or " " in text:
        raise Refused(f"{shown(text)} is not a valid URL")
    if parts.scheme not in SCHEMES:
        raise Refused(f"{shown(text)}: a model's URL begins with {'://, '.join(SCHEMES)}://")
    if "@" in parts.netloc:
        raise Refused(f"{shown(text)}: a model's URL has no user or password in it")
    return parts


def _is_at(parts: SplitResult, hub: str) -> bool:
    return parts.netloc == urlsplit(hub).netloc and parts.scheme == urlsplit(hub).scheme


def _hf(parts: SplitResult, hub: str) -> Source:
    whole, _, revision = f"{parts.netloc}{unquote(parts.path)}".partition("@")
    words = whole.split("/")
    length = 3 if words[0] in KINDS else 2
    repository, path = "/".join(words[:length]), "/".join(words[length:])
    if not path or "" in words:
        raise Refused(
            f"{shown(parts.geturl())}: write hf://OWNER/NAME/PATH, and @REVISION if wanted"
        )
    return _of_hub(repository, revision or "main", path, hub)


def _hub_url(parts: SplitResult, hub: str) -> Source:
    words = parts.path.strip("/").split("/")
    length = 3 if words[0] in KINDS else 2
    # /blob/ is the file's web page; a revision with a slash is quoted.
    if len(words) < length + 3 or words[length] not in {"resolve", "blob", "raw"}:
        raise Refused(
            f"{shown(parts.geturl())} names no file: a file's address on the hub is like "
            f"{HUB}/OWNER/NAME/resolve/main/FILE"
        )
    names = [unquote(word) for word in words]
    return _of_hub("/".join(names[:length]), names[length + 1], "/".join(names[length + 2 :]), hub)


def _of_hub(repository: str, revision: str, path: str, hub: str) -> Source:
    # The same parts name a file in the platform's cache: it must not be one outside of it.
    if {"", ".", ".."} & {*f"{repository}/{revision}/{path}".split("/")}:
        raise Refused(f"{HUB}/{repository} has no file {path[:80]!r} at {revision[:80]!r}")
    return Source(
        url=hub_url(repository, revision, path, hub),
        identity=f"huggingface.co/{repository}@{revision}/{path}",
        name=PurePosixPath(path).name,
        connections=MAX_CONNECTIONS,
        hub=(repository, revision, path),
    )


def _civitai_scheme(parts: SplitResult, civitai: str) -> Source:
    if not parts.netloc.isdigit() or parts.path.strip("/"):
        raise Refused(f"{shown(parts.geturl())}: write civitai://VERSION, the version's number")
    return _civitai(parts.netloc, _civitai_query(parts), civitai)


def _civitai_url(parts: SplitResult, civitai: str) -> Source:
    words = parts.path.strip("/").split("/")
    if words[:3] == ["api", "download", "models"] and len(words) == 4 and words[3].isdigit():
        return _civitai(words[3], _civitai_query(parts), civitai)
    version = parse_qs(parts.query).get("modelVersionId", [""])[0]
    if words[0] == "models" and version.isdigit():
        return _civitai(version, {}, civitai)
    if words[:3] == ["api", "v1", "model-versions"] and len(words) == 4 and words[3].isdigit():
        return _civitai(words[3], {}, civitai)
    raise Refused(
        f"{shown(parts.geturl())} names no version of a model: take the address of its download "
        "button, or civitai://VERSION"
    )


def _civitai_query(parts: SplitResult) -> dict[str, str]:
    return {k: v[0] for k, v in parse_qs(parts.query).items() if k in _CIVITAI_FILE}


def _civitai(version: str, query: dict[str, str], civitai: str) -> Source:
    # One URL can mean other bytes for another account, so the query belongs to the identity.
    told = f"?{urlencode(sorted(query.items()))}" if query else ""
    return Source(
        url=f"{civitai}/api/download/models/{version}{told}",
        identity=f"civitai.com/{version}{told}",
        name=version,
        connections=1,
        civitai=(version, query.get("fileId", "")),
    )
