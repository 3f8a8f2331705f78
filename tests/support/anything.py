"""Values, bytes and answers of any kind, for tests of what the worker makes of them."""

from __future__ import annotations

import copy
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.raw_server import RawServer, conversing
from tests.support.workflows import png, saved_image

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)
NUMBERS = st.integers(-3, 70) | st.sampled_from([10**30, -(10**30), 2**63, 0.5, 1e308, 5e-324])
SCALAR = st.none() | st.booleans() | NUMBERS | st.floats() | ANY_TEXT
ANYTHING = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
Json = dict[str, Any]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every list or object within, with each of its keys."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


@st.composite
def changed(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """A value with something else in some of its places."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, most))):
        found = places(value)
        if not found:
            break
        holder, key = draw(st.sampled_from(found))
        if draw(st.booleans()):
            holder[key] = draw(ANYTHING)
        elif isinstance(holder, dict):
            holder[draw(ANY_TEXT)] = holder.pop(key)
        else:
            del holder[key]
    return value


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes of which some are others, and which may end early."""
    made = bytearray(data)
    for _ in range(draw(st.integers(0, 6))):
        made[draw(st.integers(0, len(made) - 1))] = draw(st.integers(0, 255))
    return bytes(made[: draw(st.integers(len(made) // 2, len(made)))])


HEADERS = st.sampled_from(
    [
        b"Content-Length: -5",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 3, 5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Content-Encoding: gzip",
        b"Content-Range: bytes 0-3/7",
        b"Content-Range: bytes x",
        b"Content-Type: text/html",
        b"Content-Type: application/xml",
        b"ETag: \xff",
        b"Content-Disposition: attachment; filename=../../x.safetensors",
        b"Location: ",
        b"Location: http://[::1",
        b"Location: http://169.254.169.254/",
        b"Location: /again",
        b"Location: //",
        b"Retry-After: 99999999999",
        b"Connection: close",
    ]
)
STATUS = st.sampled_from([200, 200, 200, 201, 204, 206, 301, 302, 307, 400, 401, 403, 404, 416,
                          429, 500, 503, 99, 700])  # fmt: skip
XML = st.sampled_from(
    [
        b"<Error><Code>SlowDown</Code><Message>x</Message></Error>",
        b"<Error><Code></Code></Error>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><Error><Code>&b;</Code></Error>",
        b"<?xml version='1.0' encoding='utf-7'?><Error/>",
        b"<a><b>",
    ]
)
CONTENT = (
    st.binary(max_size=60)
    | XML
    | st.sampled_from([png((1, 2, 3)), json.dumps(saved_image()).encode(), b"-1\r\nabc\r\n"])
    | changed(saved_image()).map(lambda value: json.dumps(value).encode())
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """What a server says."""
    head = [b"HTTP/1.1 %d X" % draw(STATUS), *draw(st.lists(HEADERS, max_size=3))]
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    return b"\r\n".join(head) + b"\r\n\r\n" + draw(CONTENT)


MODEL = b'\x4f\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + b" " * 26
"""The head of a safetensors file, and nearly its tensor."""
LISTS = st.sampled_from(
    [
        [{"type": "file", "path": "c.safetensors", "size": 4, "lfs": {"oid": "0", "size": 4}}],
        {"modelVersions": [{"files": [{"name": "c.safetensors", "downloadUrl": "/x"}]}]},
        {"files": [{"name": "c.safetensors", "sizeKB": 1, "hashes": {"SHA256": "00"}}]},
    ]
)


@st.composite
def model_answers(draw: st.DrawFn) -> bytes:
    """What a host of models says: nearly a model, or nearly a list of files."""
    body = draw(damaged(MODEL) | LISTS.flatmap(changed).map(lambda v: json.dumps(v).encode()))
    facts = draw(
        st.lists(
            st.sampled_from(
                [
                    b'X-Linked-Etag: "0"',
                    b"X-Linked-Size: -3",
                    b"X-Linked-Size: 99999999999999999999999",
                    b"X-Repo-Commit: ../..",
                    b"Accept-Ranges: bytes",
                    b"Content-Range: bytes 0-3/99999999999999999999",
                    b'Link: <http://[::1>; rel="next"',
                    b'Link: </api/again>; rel="next"',
                    b"X-Error-Code: GatedRepo",
                ]
            )
            | HEADERS,
            max_size=3,
        )
    )
    head = [b"HTTP/1.1 %d X" % draw(STATUS), b"Content-Length: %d" % len(body), *facts]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


@dataclass
class Elsewhere:
    """Everything outside: one server whose answer is set for each job."""

    server: RawServer
    answer: bytes = b""


def take_body(client: socket.socket, head: bytes) -> bytes:
    """Read what follows the head of a request."""
    match = re.search(rb"(?i)content-length: (\d+)", head)
    body = head.partition(b"\r\n\r\n")[2]
    client.settimeout(2)
    with suppress(OSError):
        while match and len(body) < int(match[1]):
            if not (piece := client.recv(65536)):
                break
            body += piece
    return body


@contextmanager
def answering() -> Iterator[Elsewhere]:
    """Serve until the block ends: hosts of inputs and models, a bucket, a signed address."""
    found: list[Elsewhere] = []

    def talk(client: socket.socket, server: RawServer) -> None:
        take_body(client, server.requests[-1])
        client.sendall(found[0].answer)

    with conversing(talk) as server:
        found.append(Elsewhere(server))
        yield found[0]
