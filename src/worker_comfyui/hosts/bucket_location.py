"""Where a bucket is: an address as people paste it → endpoint, bucket, region, style. Pure.

Each provider has its own form of address; the hosts and regions are those of the providers' public
documentation. An address that no provider is known for (MinIO and the like) is taken path-style.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

DEFAULT_REGION = "us-east-1"

_BUCKET = r"(?:(?P<bucket>.+)\.)?"
_AWS = re.compile(
    _BUCKET + r"s3(?P<dualstack>\.dualstack)?(?:[.-](?P<region>[a-z]{2}(?:-[a-z]+)+-\d+))?"
    r"(?P<domain>\.amazonaws\.com(?:\.cn)?)"
)
_OTHERS = tuple(
    re.compile(_BUCKET + rf"(?P<service>{service})")
    for service in (
        r"[0-9a-f]{32}(?:\.[a-z]+)?\.r2\.cloudflarestorage\.com",
        r"storage\.googleapis\.com",
        r"s3\.(?P<region>[a-z0-9-]+)\.(?:backblazeb2\.com|wasabisys\.com|scw\.cloud)",
        r"(?P<region>[a-z]+(?:-[a-z]+)*-?\d+)\.(?:digitaloceanspaces|linodeobjects)\.com",
    )
)
_RUNPOD = re.compile(r"(?:.+\.)?s3api-[a-z0-9-]+\.runpod\.io")
# They have one region, `auto`: https://developers.cloudflare.com/r2/api/s3/api/
_AUTOMATIC = ("r2.cloudflarestorage.com", "storage.googleapis.com")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket's place.

    Attributes:
        endpoint: Address of the service, without the bucket.
        bucket: Its name.
        region: The region that goes into signatures.
        addressing_style: `virtual`: the bucket is part of the host; `path`: of the path.
    """

    endpoint: str
    bucket: str
    region: str
    addressing_style: Literal["virtual", "path"]

    @property
    def host(self) -> str:
        """The service's host, for messages."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]


def locate(
    endpoint_url: str, bucket_name: str | None, region: str | None, *, called: str
) -> Location:
    """Find out where a bucket is.

    The bucket's name may be in the host (`https://<bucket>.s3.<region>.amazonaws.com`), in the path
    (`https://minio.example/<bucket>`), or in `bucket_name`.

    Args:
        endpoint_url: The address of the service or of the bucket.
        bucket_name: The bucket, where the address does not name it.
        region: The region, where the address does not name it.
        called: What `bucket_name` is called where it was given, for messages.

    Raises:
        ValueError: no bucket is named, or two; the message follows the name of the setting.
    """
    try:
        parts = urlsplit(endpoint_url)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in {"http", "https"}:
        raise ValueError("must be an address like https://host")
    if match := _AWS.fullmatch(host):
        region = match["region"] or region or DEFAULT_REGION
        service = f"s3{match['dualstack'] or ''}.{region}{match['domain']}"
        found = _bucket(parts, match["bucket"], bucket_name, called)
        return _location(parts, service, found, region, virtual=True)
    if _RUNPOD.fullmatch(host):
        # https://docs.runpod.io/storage/s3-api: no presigned URLs, so nobody could download a file.
        raise ValueError(
            "is RunPod's own S3 service, which has no presigned URLs, so that no caller could "
            "download a file; use a bucket of another service, such as Cloudflare R2 or AWS S3"
        )
    for pattern in _OTHERS:
        if match := pattern.fullmatch(host):
            service = match["service"]
            usual = "auto" if service.endswith(_AUTOMATIC) else DEFAULT_REGION
            region = region or match.groupdict().get("region") or usual
            found = _bucket(parts, match["bucket"], bucket_name, called)
            return _location(parts, service, found, region, virtual=bool(match["bucket"]))
    return _unknown(parts, bucket_name, region or DEFAULT_REGION, called)


def _bucket(parts: SplitResult, in_host: str | None, named: str | None, called: str) -> str:
    """Find the bucket's name where the provider's form of address is known."""
    folders = [part for part in parts.path.split("/") if part]
    in_path = None if in_host or not folders else folders.pop(0)
    if folders:
        raise ValueError("has a folder after the bucket's name; that belongs in BUCKET_PREFIX")
    return _agreed(in_host or in_path, named, called)


def _location(
    parts: SplitResult, service: str, bucket: str, region: str, *, virtual: bool
) -> Location:
    port = f":{parts.port}" if parts.port else ""
    # A wildcard certificate covers one label: a name with dots must go into the path.
    dotted = "." in bucket
    return Location(
        f"{parts.scheme}://{service}{port}",
        bucket,
        region,
        "virtual" if virtual and not dotted else "path",
    )


def _unknown(parts: SplitResult, named: str | None, region: str, called: str) -> Location:
    """Locate a bucket of any other service: the last part of the path is the bucket's name.

    With the name given, a path that does not end in it belongs to the service's address.
    """
    folders = [part for part in parts.path.split("/") if part]
    in_path = folders.pop() if folders and (named is None or folders[-1] == named) else None
    if in_path and folders and named is None:
        raise ValueError(f"has a path of several parts; give the bucket's name as {called}")
    bucket = _agreed(in_path, named, called)
    host = parts.netloc.rpartition("@")[2]
    return Location("/".join([f"{parts.scheme}://{host}", *folders]), bucket, region, "path")


def _agreed(found: str | None, named: str | None, called: str) -> str:
    if found and named and found != named:
        raise ValueError(
            f"is the address of the bucket {found[:100]!r}, but {called} is {named[:100]!r}"
        )
    bucket = found or named
    if not bucket:
        raise ValueError(f"does not contain the bucket's name; give it as {called}")
    if not _NAME.fullmatch(bucket):
        raise ValueError(f"leads to {bucket[:100]!r}, which cannot be a bucket's name")
    return bucket
