from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from tests.support.raw_server import RawServer, conversing, repeating, saying, silent
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, S3Server, serving_s3
from worker_comfyui.delivery import presigned
from worker_comfyui.delivery.delivery import Delivery
from worker_comfyui.errors import InvalidRequest, TimedOut
from worker_comfyui.job import OutputOptions, UploadTargets
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.stop import Stop

NEVER = Stop(lambda: False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving_s3(tmp_path_factory.mktemp("s3")) as running:
        running.make_bucket("theirs")
        yield running


def signed(server: S3Server, key: str) -> str:
    """Sign an upload, as a caller does who has the keys."""
    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    return client.generate_presigned_url("put_object", Params={"Bucket": "theirs", "Key": key})


def made(folder: Path, name: str, content: bytes = b"content") -> OutputFile:
    path = folder / name.replace("/", "_")
    path.write_bytes(content)
    subfolder, _, filename = name.rpartition("/")
    return OutputFile("9", "files", filename, subfolder, "output", "application/zip", path)


def deliver(
    files: list[OutputFile], targets: UploadTargets, **changes: int
) -> tuple[list[dict[str, str]], list[str]]:
    delivery = Delivery(
        OutputOptions(upload=targets),
        None,
        job_id="job-1",
        limit_bytes=changes.get("limit_bytes", 1_000_000),
        stop=NEVER,
        allow_private=True,
    )
    delivered = delivery.deliver(files)
    return delivered.lists["files"], delivered.warnings


def test_a_file_goes_where_its_name_says(server: S3Server, tmp_path: Path) -> None:
    url = signed(server, "results/a b.zip")
    targets = UploadTargets(by_name={"sub/a.zip": url})
    files = [made(tmp_path, "sub/a.zip", b"first"), made(tmp_path, "b.zip")]
    items, warnings = deliver(files, targets)
    assert warnings == []
    assert [item["type"] for item in items] == ["uploaded", "base64"]
    assert items[0]["data"] == f"{server.url}/theirs/results/a%20b.zip"
    assert (server.folder / "theirs" / "results" / "a b.zip").read_bytes() == b"first"


def test_the_files_of_a_kind_go_to_its_addresses_in_turn(server: S3Server, tmp_path: Path) -> None:
    urls = tuple(signed(server, f"kind/{number}") for number in range(2))
    files = [made(tmp_path, f"{number}.zip", b"%d" % number) for number in range(3)]
    items, warnings = deliver(files, UploadTargets(by_kind={"files": urls, "images": ("x",)}))
    assert warnings == []
    assert [item["type"] for item in items] == ["uploaded", "uploaded", "base64"]
    assert (server.folder / "theirs" / "kind" / "1").read_bytes() == b"1"


def test_an_uploaded_file_leaves_room_for_the_others(server: S3Server, tmp_path: Path) -> None:
    targets = UploadTargets(by_name={"large.zip": signed(server, "large.zip")})
    files = [made(tmp_path, "large.zip", bytes(2_000_000)), made(tmp_path, "small.zip")]
    items, _ = deliver(files, targets, limit_bytes=50_000)
    assert [item["type"] for item in items] == ["uploaded", "base64"]


def test_a_name_that_no_file_has_is_told(tmp_path: Path) -> None:
    targets = UploadTargets(by_name={"cat.png": "https://host.test/cat.png"})
    _, warnings = deliver([made(tmp_path, "dog.zip")], targets)
    assert warnings == [
        "output.upload has an address for cat.png, and the workflow made no such file"
    ]


def test_an_address_that_refuses_is_told_and_the_file_comes_inline(
    server: S3Server, tmp_path: Path
) -> None:
    wrong = signed(server, "x.zip").replace("Signature=", "Signature=0")
    targets = UploadTargets(by_name={"x.zip": wrong})
    (item,), (warning,) = deliver([made(tmp_path, "x.zip")], targets)
    assert item["type"] == "base64"
    assert warning.startswith(f"x.zip was not taken by {server.address}: it answered 403 Forbidden")
    assert "Signature=0" not in warning


def test_a_fault_of_the_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presigned, "PAUSES_S", (0.05, 0.05))

    def talk(client: socket.socket, server: RawServer) -> None:
        status = b"503 Slow Down" if server.connections == 1 else b"200 OK"
        client.sendall(
            b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )

    with conversing(talk) as server:
        (item,), warnings = deliver(
            [made(tmp_path, "x.zip")], UploadTargets(by_name={"x.zip": f"{server.url}/x?sig=1"})
        )
    assert (item["type"], item["data"], warnings) == ("uploaded", f"{server.url}/x", [])
    assert b"Content-Type: application/zip" in server.requests[0]
    assert b"chunked" not in server.requests[0].lower()


def test_an_address_that_is_never_done_ends_with_the_job(tmp_path: Path) -> None:
    for talk in (silent, repeating(b"HTTP/1.1 100 Continue\r\n\r\n", 0.001)):
        with conversing(talk) as server:
            stop = Stop(lambda: False)
            stop.limit(0.5)
            targets = UploadTargets(by_kind={"files": (server.url,)})
            started = time.monotonic()
            with pytest.raises(TimedOut):
                presigned.upload([made(tmp_path, "x.zip")], targets, stop, allow_private=True)
            assert time.monotonic() - started < 8
    assert not [t.name for t in threading.enumerate() if t.name.startswith("upload")]


def test_an_answer_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with conversing(repeating(b"x" * 65536, first=b"HTTP/1.1 403 No\r\n\r\n")) as server:
        targets = UploadTargets(by_kind={"files": (server.url,)})
        (warning,) = presigned.upload([made(tmp_path, "x.zip")], targets, NEVER, allow_private=True)
    assert "answered more than is taken" in warning


@pytest.mark.parametrize("size", [2_000_000, 2**62, 10**20])
def test_an_answer_that_announces_too_much_is_not_waited_for(tmp_path: Path, size: int) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    with conversing(saying(said)) as server:
        targets = UploadTargets(by_kind={"files": (server.url,)})
        (warning,) = presigned.upload([made(tmp_path, "x.zip")], targets, NEVER, allow_private=True)
        assert server.connections == 1
    assert "answered more than is taken" in warning


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    said = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with conversing(saying(said)) as server:
        targets = UploadTargets(by_kind={"files": (server.url,)})
        (warning,) = presigned.upload([made(tmp_path, "x.zip")], targets, NEVER, allow_private=True)
    assert "answered 302 Found" in warning


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "localhost", "[::1]"])
def test_an_address_must_be_public_before_any_work_and_when_it_is_used(
    tmp_path: Path, host: str
) -> None:
    targets = UploadTargets(by_kind={"files": (f"http://{host}:9/x?sig=1",)})
    with pytest.raises(InvalidRequest, match="not public") as caught:
        presigned.check(targets, NEVER, allow_private=False)
    assert caught.value.details[0]["path"] == "output.upload.files[0]"
    (warning,) = presigned.upload([made(tmp_path, "x.zip")], targets, NEVER, allow_private=False)
    assert "not public" in warning


def test_without_addresses_nothing_is_done(tmp_path: Path) -> None:
    presigned.check(UploadTargets(), NEVER, allow_private=False)
    file = made(tmp_path, "x.zip")
    assert presigned.upload([file], UploadTargets(), NEVER, allow_private=False) == []
    assert file == replace(file, url=None)
