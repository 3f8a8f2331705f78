"""What the other side says of a file, before any of it is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from worker_comfyui.models.transfer.errors import Damaged, Refused
from worker_comfyui.models.transfer.lines import Line
from worker_comfyui.models.transfer.requests import Patience, finish, follow, get_json
from worker_comfyui.models.transfer.rules import Rules
from worker_comfyui.models.transfer.sources import MAX_CONNECTIONS, Source, hub_url
from worker_comfyui.models.transfer.wording import shown

MAX_FILES = 20_000
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A file as it is announced.

    Attributes:
        source: Where it was asked for; of the hub, at the commit that it has now.
        url: Who has its bytes: often a signed address of a delivery network, valid for an hour.
        size: Its bytes; None: it is not said.
        has_ranges: Whether parts of it can be asked for.
        sha256: Of its content, where that is said.
        git_sha1: Of small files of the hub: the hash that git gives them.
        filename: What it is called.
    """

    source: Source
    url: str
    size: int | None = None
    has_ranges: bool = False
    sha256: str | None = None
    git_sha1: str | None = None
    filename: str = ""


def look_up(line: Line, source: Source, rules: Rules, patience: Patience) -> Remote:
    """Ask for a file's first byte, and so for all that is said of it.

    Not by HEAD: a signed link is signed for GET alone.

    Raises:
        Unreachable, Refused, Ended: as `requests.follow` does, after all attempts.
    """
    said = Remote(source=source, url=source.url)
    if source.civitai:
        said = _civitai(line, source, rules, patience)
    url = said.source.url
    found = patience.attempt(lambda: follow(line, said.source, rules, url, {"Range": "bytes=0-0"}))
    headers, facts = found.response.headers, found.facts
    part = _CONTENT_RANGE.fullmatch(headers.get("Content-Range") or "")
    if found.response.status == 206 and part:
        size: int | None = int(part[3])
        finish(found.response)
    else:
        # The whole file would come now.
        size = found.response.length
        found.response.close()
    _same_length(source, size, facts.get("x-linked-size"))
    # X-Linked-Etag is the hash of a large file, ETag that of git for a small one; elsewhere an
    # ETag may be anything.
    etag = (facts.get("x-linked-etag") or facts.get("etag") or "").removeprefix("W/").strip('"')
    return replace(
        said,
        source=_pinned(said.source, facts.get("x-repo-commit", ""), rules.hub),
        url=found.url,
        size=size,
        has_ranges=found.response.status == 206 and part is not None,
        sha256=said.sha256 or (etag.lower() if facts and _SHA256.fullmatch(etag) else None),
        git_sha1=etag if source.hub and _SHA1.fullmatch(etag) else None,
        filename=said.filename or _filename(found.url, headers) or source.name,
    )


def _same_length(source: Source, size: int | None, linked: str | None) -> None:
    # As texts: a number may have more digits than Python reads.
    if size is not None and linked and linked.isdecimal() and linked != str(size):
        raise Damaged(
            f"{shown(source.url)}: the hub says {linked} bytes, and what it redirects to has "
            f"{size}: try again later, or take another revision"
        )


def list_repository(
    line: Line, repository: str, revision: str | None, rules: Rules, patience: Patience
) -> list[Remote]:
    """List all files of a repository of the hub, at one commit.

    Raises:
        Unreachable, Refused, Ended: as `requests.follow` does, after all attempts.
    """
    api = f"{rules.hub}/api/models/{quote(repository)}"
    with _sensible(api):
        return _files(line, api, (repository, revision or "main"), rules, patience)


@contextmanager
def _sensible(url: str) -> Iterator[None]:
    """Refuse an answer whose JSON is not what it should be."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError):
        raise Refused(f"{shown(url)} answered what makes no sense for a model") from None


def _files(
    line: Line, api: str, named: tuple[str, str], rules: Rules, patience: Patience
) -> list[Remote]:
    repository, revision = named
    source = Source("", "", "", 1, hub=(repository, revision, ""))  # for messages alone
    about, _ = get_json(line, source, rules, f"{api}/revision/{quote(revision, safe='')}", patience)
    commit = str(_field(about, "sha"))
    url: str | None = f"{api}/tree/{commit}?recursive=true"
    files: list[Remote] = []
    while url and len(files) < MAX_FILES:
        page, url = get_json(line, source, rules, url, patience)
        if not isinstance(page, list):
            raise Refused(f"{repository}: the hub's list of files is none")
        files += [_listed(e, repository, commit, rules.hub) for e in page if _is_file(e)]
    return files


def _is_file(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("type") == "file"


def _listed(entry: dict[str, Any], repository: str, commit: str, hub: str) -> Remote:
    path = str(_field(entry, "path"))
    lfs = entry.get("lfs") or {}
    url = hub_url(repository, commit, path, hub)
    named = f"huggingface.co/{repository}@{commit}/{path}"
    return Remote(
        source=Source(
            url, named, PurePosixPath(path).name, MAX_CONNECTIONS, hub=(repository, commit, path)
        ),
        url=url,
        size=int(_field(entry, "size")),
        has_ranges=True,
        sha256=lfs.get("oid") or lfs.get("sha256"),
        git_sha1=None if lfs else entry.get("oid"),
        filename=path,
    )


def _field(value: Any, name: str) -> Any:
    try:
        return value[name]
    except (TypeError, LookupError):
        raise Refused(f"the hub's answer has no {name!r}: is HF_ENDPOINT a hub?") from None


def _pinned(source: Source, commit: str, hub: str) -> Source:
    """Name the commit, so that all parts are of one file, whatever is pushed meanwhile."""
    if not source.hub or not _SHA1.fullmatch(commit):
        return source
    repository, _, path = source.hub
    return replace(
        source,
        url=hub_url(repository, commit, path, hub),
        identity=f"huggingface.co/{repository}@{commit}/{path}",
        hub=(repository, commit, path),
    )


def _civitai(line: Line, source: Source, rules: Rules, patience: Patience) -> Remote:
    """Ask Civitai's API which file of a version is meant, and for its hash.

    The address is then that of the one file: the version's alone gives what the account prefers.
    """
    version, _ = source.civitai or ("", "")
    url = f"{rules.civitai}/api/v1/model-versions/{version}"
    answer, _ = get_json(line, source, rules, url, patience)
    if not isinstance(answer, dict):
        raise Refused(f"{shown(url)} did not describe a version of a model")
    with _sensible(url):
        return _of_version(answer, source, rules)


def _of_version(answer: dict[str, Any], source: Source, rules: Rules) -> Remote:
    version, file_id = source.civitai or ("", "")
    query = parse_qs(urlsplit(source.url).query)
    file = _civitai_file(answer.get("files"), file_id, has_query=bool(query))
    said = Remote(source=source, url=source.url)
    if not file:
        return said
    digest = str((file.get("hashes") or {}).get("SHA256") or "").lower()
    exact = f"{rules.civitai}/api/download/models/{version}?fileId={file['id']}"
    return replace(
        said,
        source=replace(source, url=exact, identity=f"civitai.com/{version}?fileId={file['id']}"),
        sha256=digest if _SHA256.fullmatch(digest) else None,
        filename=_plain(str(file.get("name") or "")),
    )


def _civitai_file(files: Any, file_id: str, *, has_query: bool) -> dict[str, Any] | None:
    found = [f for f in files or () if isinstance(f, dict) and isinstance(f.get("id"), int)]
    if file_id:
        return next((f for f in found if str(f["id"]) == file_id), None)
    if has_query:  # type, format, ...: the server knows best which file that is
        return None
    return next((f for f in found if f.get("primary")), found[0] if len(found) == 1 else None)


def _filename(url: str, headers: Message) -> str:
    """Read the name that an answer gives, or a signed link: remote input, so a plain name."""
    signed = parse_qs(urlsplit(url).query).get("response-content-disposition", [""])[0]
    for text in (headers.get("Content-Disposition"), signed):
        if text:
            message = Message()
            message["Content-Disposition"] = text
            if name := _plain(unquote(message.get_filename() or "")):
                return name
    return ""


def _plain(name: str) -> str:
    """Return a name without folders and control characters; empty if nothing is left."""
    name = "".join(c for c in name.replace("\\", "/").rpartition("/")[2] if c.isprintable())
    return name if name.strip(". ") and len(name.encode()) <= 255 else ""
