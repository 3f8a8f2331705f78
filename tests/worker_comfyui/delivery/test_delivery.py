from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from tests.support.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from tests.support.tcp_proxy import Faults, proxying
from worker_comfyui.config import Secret
from worker_comfyui.delivery.bucket import Bucket
from worker_comfyui.delivery.delivery import Delivered, Delivery, check
from worker_comfyui.errors import DeliveryFailed, DiskFull, InvalidRequest, ResultTooLarge
from worker_comfyui.hosts.bucket_location import locate
from worker_comfyui.job import OutputOptions
from worker_comfyui.media.media_types import by_name, kind_of
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.stop import JobCancelled, Stop

DELIVERY = Delivery(
    OutputOptions(),
    None,
    job_id="job-1",
    limit_bytes=20_000_000,
    stop=Stop(lambda: False),
)


class Folder:
    """Makes fetched files, numbered as the worker numbers them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def add(self, name: str, content: bytes | Image.Image) -> OutputFile:
        """Make the file that a node reported as `subfolder/name`."""
        path = self.path / f"{self.count}{Path(name).suffix}"
        self.count += 1
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path)
        media_type = by_name(name)
        subfolder, _, filename = name.rpartition("/")
        return OutputFile(
            node_id="9",
            kind=kind_of(media_type or ""),
            filename=filename,
            subfolder=subfolder,
            media_type=media_type,
            path=path,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "scratch").mkdir()
    return Folder(tmp_path / "scratch")


def bucket_at(url: str, secret: str = SECRET_KEY) -> Bucket:
    location = locate(url, "results", None, called="BUCKET_NAME")
    return Bucket(location, Secret(ACCESS_KEY), Secret(secret), read_timeout_s=20, attempts=2)


def red(width: int = 32, height: int = 24) -> Image.Image:
    return Image.new("RGB", (width, height), "red")


def content(item: dict[str, Any]) -> bytes:
    """Get an item's file as a caller does."""
    if item["type"] == "base64":
        return base64.b64decode(item["data"], validate=True)
    answer = requests.get(item["data"], timeout=10)
    assert answer.headers["Content-Type"] == item["media_type"]
    return answer.content


def encoded_size(delivered: Delivered) -> int:
    return len(json.dumps(delivered.lists))


def test_an_image_is_returned_as_base64_with_what_it_is(folder: Folder) -> None:
    file = folder.add("a_00001_.png", red())
    delivered = DELIVERY.deliver([file])
    assert delivered.warnings == []
    (item,) = delivered.lists["images"]
    assert content(item) == file.copy.read_bytes()
    del item["data"]
    assert item == {
        "filename": "a_00001_.png",
        "type": "base64",
        "media_type": "image/png",
        "bytes": file.copy.stat().st_size,
        "sha256": hashlib.sha256(file.copy.read_bytes()).hexdigest(),
        "node_id": "9",
        "width": 32,
        "height": 24,
    }


def test_every_kind_has_its_list_and_only_lists_with_items_are_there(folder: Folder) -> None:
    files = [
        folder.add("b.mp4", b"\0\0\0\x18ftypisom"),
        folder.add("c.flac", b"fLaC"),
        folder.add("d.glb", b"glTF"),
    ]
    lists = DELIVERY.deliver(files).lists
    assert list(lists) == ["videos", "audio", "files"]
    assert [items[0]["media_type"] for items in lists.values()] == [
        "video/mp4",
        "audio/flac",
        "model/gltf-binary",
    ]


def test_a_file_without_a_known_extension_is_recognised_by_its_content(folder: Folder) -> None:
    files = [folder.add("clip.xyz", b"\x1a\x45\xdf\xa3..."), folder.add("data.xyz", b"???")]
    lists = DELIVERY.deliver(files).lists
    assert lists["videos"][0]["media_type"] == "video/webm"
    assert lists["files"][0]["media_type"] == "application/octet-stream"


def test_an_image_under_a_wrong_extension_has_its_true_media_type(folder: Folder) -> None:
    file = folder.add("a.png", b"")
    red().save(file.copy, "JPEG")
    assert DELIVERY.deliver([file]).lists["images"][0]["media_type"] == "image/jpeg"


def test_a_damaged_image_is_returned_as_it_is(folder: Folder) -> None:
    options = OutputOptions(format="jpeg")
    delivered = replace(DELIVERY, options=options).deliver([folder.add("a.png", b"damaged")])
    (item,) = delivered.lists["images"]
    assert content(item) == b"damaged"
    assert "width" not in item


def test_an_empty_file_is_delivered(folder: Folder) -> None:
    (item,) = DELIVERY.deliver([folder.add("a.txt", b"")]).lists["files"]
    assert (item["bytes"], item["data"]) == (0, "")


def test_equal_names_of_two_folders_stay_apart(folder: Folder) -> None:
    files = [folder.add(f"{name}/same.bin", name.encode()) for name in "ab"]
    items = DELIVERY.deliver(files).lists["files"]
    assert [(i["subfolder"], i["filename"], content(i)) for i in items] == [
        ("a", "same.bin", b"a"),
        ("b", "same.bin", b"b"),
    ]


def test_names_that_become_equal_are_told_apart(folder: Folder) -> None:
    files = [
        folder.add("a.png", red(1, 1)),
        folder.add("a.bmp", red(2, 2)),
        folder.add("a.png", red(3, 3)),
    ]
    delivery = replace(DELIVERY, options=OutputOptions(format="webp"))
    items = delivery.deliver(files).lists["images"]
    assert [(i["filename"], i["width"]) for i in items] == [
        ("a.webp", 1),
        ("a_2.webp", 2),
        ("a_3.webp", 3),
    ]


def test_a_folder_that_only_begins_like_the_jobs_is_kept(folder: Folder) -> None:
    (item,) = DELIVERY.deliver([folder.add("job-abcdef/a.bin", b"x")]).lists["files"]
    assert item["subfolder"] == "job-abcdef"


def test_conversion_changes_name_type_and_size(folder: Folder) -> None:
    file = folder.add("a_00001_.png", Image.effect_noise((128, 128), 90))
    delivery = replace(DELIVERY, options=OutputOptions(format="jpeg", quality=50))
    (item,) = delivery.deliver([file]).lists["images"]
    assert (item["filename"], item["media_type"]) == ("a_00001_.jpg", "image/jpeg")
    assert item["bytes"] == len(content(item)) < file.copy.stat().st_size


def test_a_jpeg_keeps_the_extension_it_has(folder: Folder) -> None:
    delivery = replace(DELIVERY, options=OutputOptions(format="jpeg", metadata=False))
    (item,) = delivery.deliver([folder.add("a.jpeg", red())]).lists["images"]
    assert item["filename"] == "a.jpeg"


def test_an_image_that_cannot_be_converted_comes_as_it_is_with_a_warning(folder: Folder) -> None:
    file = folder.add("a.tiff", Image.new("F", (8, 8)))
    delivered = replace(DELIVERY, options=OutputOptions(format="jpeg")).deliver([file])
    assert delivered.lists["images"][0]["filename"] == "a.tiff"
    assert "a.tiff could not be converted" in delivered.warnings[0]


def test_an_animation_says_so(folder: Folder) -> None:
    file = folder.add("a.webp", b"")
    red().save(file.copy, save_all=True, append_images=[Image.new("RGB", (32, 24), "blue")])
    delivery = replace(DELIVERY, options=OutputOptions(format="png"))
    (item,) = delivery.deliver([file]).lists["images"]
    assert (item["filename"], item["animated"]) == ("a.webp", True)


def test_a_full_disk_while_converting_is_its_own_error(folder: Folder) -> None:
    file = folder.add("a.png", red())
    # Writing to /dev/full fails as on a full disk.
    (folder.path / "0.png.jpg").symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        replace(DELIVERY, options=OutputOptions(format="jpeg")).deliver([file])


def test_a_cancelled_delivery_ends(folder: Folder) -> None:
    with pytest.raises(JobCancelled):
        replace(DELIVERY, stop=Stop(lambda: True)).deliver([folder.add("a.png", red())])


def test_a_result_above_the_limit_without_a_bucket_names_sizes_and_ways_out(
    folder: Folder,
) -> None:
    files = [folder.add("big.bin", bytes(2_000_000)), folder.add("small.bin", bytes(1000))]
    delivery = replace(DELIVERY, limit_bytes=1_000_000)
    with pytest.raises(ResultTooLarge) as caught:
        delivery.deliver(files)
    message = caught.value.message
    assert "2.7 MB as JSON, and at most 1.0 MB can be returned" in message
    assert "big.bin 2.0 MB, small.bin 1.0 kB" in message
    assert "bucket" in message
    assert "output.format" in message


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000, 1001, 786_432, 786_433])
def test_the_limit_is_that_of_the_encoded_result(folder: Folder, count: int) -> None:
    files = [folder.add("ä b/x.bin", bytes(count)), folder.add("y.bin", bytes(count))]
    exact = encoded_size(DELIVERY.deliver(files))
    delivered = replace(DELIVERY, limit_bytes=exact + 100).deliver(files)
    assert encoded_size(delivered) == exact
    with pytest.raises(ResultTooLarge):
        replace(DELIVERY, limit_bytes=exact - 100).deliver(files)


def test_s3_without_a_bucket_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest, match="BUCKET_ENDPOINT_URL") as caught:
        check(OutputOptions(delivery="s3"), None)
    assert caught.value.details[0]["path"] == "output.delivery"
    check(OutputOptions(delivery="base64"), None)


def test_with_a_bucket_files_go_there(folder: Folder, server: S3Server) -> None:
    files = [folder.add("sub/a.png", red()), folder.add("b.mp4", b"video")]
    delivered = replace(DELIVERY, bucket=bucket_at(server.url)).deliver(files)
    assert delivered.warnings == []
    image, video = delivered.lists["images"][0], delivered.lists["videos"][0]
    assert image["type"] == video["type"] == "s3_url"
    assert content(image) == files[0].copy.read_bytes()
    assert content(video) == b"video"
    assert (server.folder / "results" / "job-1" / "sub" / "a.png").is_file()
    assert (image["width"], image["bytes"]) == (32, files[0].copy.stat().st_size)


def test_base64_is_returned_where_asked_although_there_is_a_bucket(
    folder: Folder, server: S3Server
) -> None:
    delivery = replace(
        DELIVERY, bucket=bucket_at(server.url), options=OutputOptions(delivery="base64")
    )
    (item,) = delivery.deliver([folder.add("a.png", red())]).lists["images"]
    assert item["type"] == "base64"
    assert not list((server.folder / "results").iterdir())


def test_what_does_not_fit_goes_to_the_bucket_the_largest_first(
    folder: Folder, server: S3Server
) -> None:
    files = [
        folder.add("small.bin", b"s" * 100_000),
        folder.add("large.bin", b"l" * 600_000),
        folder.add("middle.bin", b"m" * 300_000),
    ]
    delivery = replace(
        DELIVERY,
        bucket=bucket_at(server.url),
        options=OutputOptions(delivery="base64"),
        limit_bytes=700_000,
    )
    delivered = delivery.deliver(files)
    items = delivered.lists["files"]
    assert [(i["filename"], i["type"]) for i in items] == [
        ("small.bin", "base64"),
        ("large.bin", "s3_url"),
        ("middle.bin", "base64"),
    ]
    assert [content(i)[:1] for i in items] == [b"s", b"l", b"m"]
    assert encoded_size(delivered) <= 700_000
    (warning,) = delivered.warnings
    assert warning.startswith("large.bin (0.6 MB) went to the bucket")


def test_a_bucket_that_fails_is_replaced_by_inline_results_with_a_warning(
    folder: Folder, server: S3Server
) -> None:
    files = [folder.add(f"{i}.png", red()) for i in range(3)]
    delivery = replace(
        DELIVERY,
        bucket=bucket_at(server.url, secret="wrong"),
        options=OutputOptions(delivery="s3"),
    )
    delivered = delivery.deliver(files)
    assert [i["type"] for i in delivered.lists["images"]] == ["base64"] * 3
    assert [content(i) for i in delivered.lists["images"]] == [f.copy.read_bytes() for f in files]
    (warning,) = delivered.warnings
    assert "answered SignatureDoesNotMatch" in warning
    assert "returned inline instead: 0.png, 1.png, 2.png" in warning


def test_a_bucket_that_fails_on_what_does_not_fit_is_an_error(
    folder: Folder, server: S3Server
) -> None:
    server.kill()
    delivery = replace(DELIVERY, bucket=bucket_at(server.url), limit_bytes=100_000)
    with pytest.raises(DeliveryFailed) as caught:
        delivery.deliver([folder.add("big.bin", bytes(200_000))])
    assert "could not be reached" in caught.value.message
    assert "big.bin 0.2 MB" in caught.value.message
    assert caught.value.retryable


def test_a_bucket_that_breaks_off_midway_leaves_no_partial_file_in_the_result(
    folder: Folder, server: S3Server
) -> None:
    small = folder.add("small.bin", b"s" * 1000)
    large = folder.add("large.bin", b"l" * 2_000_000)
    with proxying(server.address, Faults(cut_after=500_000)) as proxy:
        delivered = replace(DELIVERY, bucket=bucket_at(proxy.url)).deliver([small, large])
        items = delivered.lists["files"]
        assert [i["type"] for i in items] == ["s3_url", "base64"]
        assert [content(i) for i in items] == [b"s" * 1000, b"l" * 2_000_000]
    assert len(delivered.warnings) == 1
