"""The Hugging Face hub: what it says of a file, and the file itself, checked."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._headers import build_hf_headers

from models.variants import ModelFile

STAGING = ".download"
"""Folder beside the models for what has not been checked yet; what lies there is resumed."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


class DownloadError(Exception):
    """A file cannot be had; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file of the hub at one commit, as the hub describes it.

    `sha256` is None for the small files that the hub keeps in git itself.
    """

    repository: str
    commit: str
    path: str
    destination: str
    size: int
    sha256: str | None


def look_up(file: ModelFile, token: str | None) -> list[RemoteFile]:
    """Ask the hub for the file, or for all files of a whole repository.

    Raises:
        DownloadError: it is not there, may not be read, or is not the file that the list means.
    """
    try:
        remote = [_one(file, token)] if file.path else list(_all(file, token))
    except Exception as error:
        raise _explained(error, file.repository, file.path, token) from error
    if file.path:
        _agree(file, remote[0])
    return remote


def _one(file: ModelFile, token: str | None) -> RemoteFile:
    path = file.path or ""
    url = hf_hub_url(file.repository, path, revision=file.revision)
    metadata = get_hf_file_metadata(url, token=token or False)
    if metadata.size is None or metadata.commit_hash is None:
        raise DownloadError(f"{url}: the hub did not say size and commit")
    digest = metadata.etag if metadata.etag and _SHA256.fullmatch(metadata.etag) else None
    return RemoteFile(
        repository=file.repository,
        commit=metadata.commit_hash,
        path=path,
        destination=file.destination,
        size=metadata.size,
        sha256=digest or file.sha256,
    )


def _all(file: ModelFile, token: str | None) -> Iterator[RemoteFile]:
    api = HfApi(token=token or False)
    commit = api.model_info(file.repository, revision=file.revision).sha
    if commit is None:
        raise DownloadError(f"{file.repository}: the hub did not say its commit")
    for entry in api.list_repo_tree(file.repository, recursive=True, revision=commit):
        if isinstance(entry, RepoFile):
            yield RemoteFile(
                repository=file.repository,
                commit=commit,
                path=entry.path,
                destination=f"{file.destination}/{entry.path}",
                size=entry.size,
                sha256=entry.lfs.sha256 if entry.lfs else None,
            )


def _agree(file: ModelFile, remote: RemoteFile) -> None:
    name = f"{file.repository}: {file.path}"
    if file.exact and file.size != remote.size:
        raise DownloadError(
            f"{name} has {remote.size} bytes on the hub, {file.size} in src/models/variants.json: "
            "the file was replaced, or the list is wrong; compare them, then correct the list"
        )
    if file.sha256 and remote.sha256 != file.sha256:
        raise DownloadError(
            f"{name} has the SHA-256 {remote.sha256} on the hub, {file.sha256} in "
            "src/models/variants.json: the file was replaced, or the list is wrong; compare them, "
            "then correct the list"
        )


def fetch(file: RemoteFile, folder: Path, token: str | None) -> bool:
    """Download the file below `folder`, going on where an earlier attempt stopped.

    Nothing appears under its final name before it has been checked.

    Returns:
        False if the file was there already.

    Raises:
        DownloadError: when it cannot be had, or what came is not what was announced.
    """
    destination = folder / file.destination
    if destination.is_file() and _problem(destination, file) is None:
        return False
    partial = folder / STAGING / f"{file.repository}@{file.commit}" / file.path
    _download(file, partial, token)
    if problem := _problem(partial, file):
        partial.unlink()
        raise DownloadError(
            f"{file.repository}: {file.path} arrived damaged: {problem}. It was deleted; "
            "run the download again"
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(destination)
    return True


def remove_staging(folder: Path) -> None:
    """Remove what the downloads left behind: to be called when all have succeeded."""
    shutil.rmtree(folder / STAGING, ignore_errors=True)


def _download(file: RemoteFile, partial: Path, token: str | None) -> None:
    """Write the rest of the file to `partial`.

    hf_hub_download would begin anew in each process: its partial files are for itself alone.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    if partial.exists() and partial.stat().st_size > file.size:
        partial.unlink()
    try:
        with partial.open("ab") as stream:
            http_get(
                hf_hub_url(file.repository, file.path, revision=file.commit),
                stream,
                resume_size=stream.tell(),
                headers=build_hf_headers(token=token or False),
                expected_size=file.size,
            )
    except (httpx2.HTTPError, OSError) as error:
        raise _explained(error, file.repository, file.path, token) from error


def _problem(path: Path, file: RemoteFile) -> str | None:
    size = path.stat().st_size
    if size != file.size:
        return f"{size} bytes instead of {file.size}"
    if file.sha256 and (digest := _sha256(path)) != file.sha256:
        return f"SHA-256 {digest} instead of {file.sha256}"
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _explained(
    error: Exception, repository: str, path: str | None, token: str | None
) -> DownloadError:
    if isinstance(error, DownloadError):
        return error
    name = f"{repository}: {path}" if path else repository
    return DownloadError(f"{name} {_reason(error, f'https://huggingface.co/{repository}', token)}")


def _reason(error: Exception, page: str, token: str | None) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError) or status in {401, 403}:
        if token:
            return (
                f"was refused ({status}): accept the terms at {page} with the account that your "
                "token belongs to, and give the token the right to read gated repositories"
            )
        return (
            f"needs a token: accept the terms at {page}, make a read token at "
            "https://huggingface.co/settings/tokens, and set HF_TOKEN (for an image: the build "
            "secret HF_TOKEN, see docs/deployment.md)"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"does not have this revision on the hub; see {page}/commits"
    if isinstance(error, RemoteEntryNotFoundError):
        return f"is not on the hub; see {page}/tree/main"
    if isinstance(error, RepositoryNotFoundError):
        return "is not on the hub: there is no such repository"
    return f"could not be downloaded ({error}); run it again to go on"
