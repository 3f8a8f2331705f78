"""What a file is: its media type, by name or by its first bytes, and the list it belongs to."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["images", "videos", "audio", "files"]
"""The lists of a result."""

KINDS: tuple[Kind, ...] = ("images", "videos", "audio", "files")
UNKNOWN = "application/octet-stream"
HEAD_BYTES = 64
"""How much of a file `by_content` needs."""

_BY_EXTENSION = {
    "png": "image/png",
    "apng": "image/apng",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "avif": "image/avif",
    "heic": "image/heic",
    "jxl": "image/jxl",
    "jp2": "image/jp2",
    "svg": "image/svg+xml",
    "exr": "image/x-exr",
    "hdr": "image/vnd.radiance",
    "psd": "image/vnd.adobe.photoshop",
    "tga": "image/x-tga",
    "ico": "image/vnd.microsoft.icon",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "avi": "video/x-msvideo",
    "mpg": "video/mpeg",
    "mpeg": "video/mpeg",
    "ogv": "video/ogg",
    "wmv": "video/x-ms-wmv",
    "flv": "video/x-flv",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "aif": "audio/aiff",
    "aiff": "audio/aiff",
    "mid": "audio/midi",
    "glb": "model/gltf-binary",
    "gltf": "model/gltf+json",
    "obj": "model/obj",
    "stl": "model/stl",
    "ply": "model/ply",
    "usdz": "model/vnd.usdz+zip",
    "json": "application/json",
    "zip": "application/zip",
    "gz": "application/gzip",
    "tar": "application/x-tar",
    "pdf": "application/pdf",
    "xml": "application/xml",
    "txt": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "csv": "text/csv",
    "md": "text/markdown",
    "html": "text/html",
    "latent": UNKNOWN,
    "safetensors": UNKNOWN,
    "fbx": UNKNOWN,
    "splat": UNKNOWN,
    "npy": UNKNOWN,
    "npz": UNKNOWN,
}

# The first that fits counts: the brands of an MP4 come before the `ftyp` of all.
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"glTF", "model/gltf-binary"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"%PDF-", "application/pdf"),
)


def by_name(filename: str) -> str | None:
    """Look up a media type by the file's extension; None: unknown extension."""
    return _BY_EXTENSION.get(PurePosixPath(filename).suffix[1:].lower())


def by_content(head: bytes) -> str | None:
    """Recognise a media type by a file's first bytes; None: not recognised."""
    for offset, signature, media_type in _SIGNATURES:
        if head.startswith(signature, offset):
            return media_type
    return None


def kind_of(media_type: str) -> Kind:
    """Return the list in which files of a media type are delivered."""
    match media_type.partition("/")[0]:
        case "image":
            return "images"
        case "video":
            return "videos"
        case "audio":
            return "audio"
    return "files"
