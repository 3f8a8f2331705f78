from __future__ import annotations

import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.support.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from tests.support.tcp_proxy import Faults, proxying
from worker_comfyui.config import Secret, Settings
from worker_comfyui.delivery.bucket import Bucket, Upload, UploadFailed
from worker_comfyui.errors import ConfigurationError, InvalidRequest
from worker_comfyui.hosts.bucket_location import locate
from worker_comfyui.job import S3Config
from worker_comfyui.stop import JobCancelled, Stop


def bucket_at(
    endpoint_url: str, name: str | None = None, region: str | None = None, secret: str = SECRET_KEY
) -> Bucket:
    location = locate(endpoint_url, name, region, called="BUCKET_NAME")
    return Bucket(location, Secret(ACCESS_KEY), Secret(secret), read_timeout_s=20, attempts=2)


NEVER = Stop(lambda: False)


FORMS_OF_ADDRESS = """
# AWS; the first is what users of the existing worker have
https://bkt.s3.eu-west-1.amazonaws.com            -    bkt.s3.eu-west-1.amazonaws.com/k   eu-west-1
https://bkt.s3.eu-west-1.amazonaws.com/           bkt  bkt.s3.eu-west-1.amazonaws.com/k   eu-west-1
https://s3.eu-west-1.amazonaws.com                bkt  bkt.s3.eu-west-1.amazonaws.com/k   eu-west-1
https://s3.eu-west-1.amazonaws.com/bkt            -    bkt.s3.eu-west-1.amazonaws.com/k   eu-west-1
https://s3-eu-west-1.amazonaws.com/bkt            -    bkt.s3.eu-west-1.amazonaws.com/k   eu-west-1
https://bkt.s3.amazonaws.com                      -    bkt.s3.us-east-1.amazonaws.com/k   us-east-1
https://s3.amazonaws.com                          bkt  bkt.s3.us-east-1.amazonaws.com/k   us-east-1
https://a.bkt.s3.sa-east-1.amazonaws.com          -    s3.sa-east-1.amazonaws.com/a.bkt/k sa-east-1
https://bkt.s3.us-gov-west-1.amazonaws.com - bkt.s3.us-gov-west-1.amazonaws.com/k us-gov-west-1
https://bkt.s3.dualstack.sa-east-1.{aws}          -    bkt.s3.dualstack.sa-east-1.{aws}/k  sa-east-1
https://bkt.s3.cn-north-1.amazonaws.com.cn        -  bkt.s3.cn-north-1.amazonaws.com.cn/k cn-north-1
# Cloudflare R2
https://{id}.r2.cloudflarestorage.com             bkt  {id}.r2.cloudflarestorage.com/bkt/k     auto
https://{id}.r2.cloudflarestorage.com/bkt         -    {id}.r2.cloudflarestorage.com/bkt/k     auto
https://bkt.{id}.r2.cloudflarestorage.com         -    bkt.{id}.r2.cloudflarestorage.com/k     auto
https://{id}.eu.r2.cloudflarestorage.com/bkt      -    {id}.eu.r2.cloudflarestorage.com/bkt/k  auto
# MinIO, and every service that is not known
http://127.0.0.1:9000                             bkt  127.0.0.1:9000/bkt/k                us-east-1
http://minio.local:9000/bkt                       -    minio.local:9000/bkt/k              us-east-1
https://s3.example.com/bkt                        -    s3.example.com/bkt/k                us-east-1
https://ref.supabase.co/storage/v1/s3             bkt  ref.supabase.co/storage/v1/s3/bkt/k us-east-1
https://ref.supabase.co/storage/v1/s3/bkt         bkt  ref.supabase.co/storage/v1/s3/bkt/k us-east-1
# Backblaze, Wasabi, Scaleway
https://s3.us-west-004.backblazeb2.com bkt  s3.us-west-004.backblazeb2.com/bkt/k us-west-004
https://bkt.s3.us-west-004.backblazeb2.com - bkt.s3.us-west-004.backblazeb2.com/k us-west-004
https://s3.eu-central-1.wasabisys.com/bkt - s3.eu-central-1.wasabisys.com/bkt/k eu-central-1
https://bkt.s3.fr-par.scw.cloud                   -    bkt.s3.fr-par.scw.cloud/k           fr-par
# DigitalOcean Spaces, Linode
https://nyc3.digitaloceanspaces.com               bkt  nyc3.digitaloceanspaces.com/bkt/k   nyc3
https://bkt.nyc3.digitaloceanspaces.com           -    bkt.nyc3.digitaloceanspaces.com/k   nyc3
https://us-east-1.linodeobjects.com/bkt           -    us-east-1.linodeobjects.com/bkt/k   us-east-1
# Google Cloud Storage
https://storage.googleapis.com                    bkt  storage.googleapis.com/bkt/k        auto
https://bkt.storage.googleapis.com                -    bkt.storage.googleapis.com/k        auto
""".replace("{id}", "0123456789abcdef0123456789abcdef").replace("{aws}", "amazonaws.com")


@pytest.mark.parametrize(
    "form", [line for line in FORMS_OF_ADDRESS.splitlines() if line and line[0] != "#"]
)
def test_each_form_of_address_leads_to_its_bucket(form: str) -> None:
    address, name, host_and_path, region = form.split()
    url = urlsplit(bucket_at(address, None if name == "-" else name).url("k"))
    assert url.netloc + url.path == host_and_path
    assert url.scheme == address.partition(":")[0]
    assert parse_qs(url.query)["X-Amz-Credential"][0].split("/")[2] == region


RECIPES = re.findall(
    r"^\| ([\w ]+) \| `(https://[^`]+)` \|",
    (Path(__file__).parents[3] / "docs" / "operating.md").read_text(),
    re.MULTILINE,
)


@pytest.mark.parametrize(("service", "address"), RECIPES)
def test_a_documented_address_leads_to_its_bucket(service: str, address: str) -> None:
    url = urlsplit(bucket_at(address.replace("ACCOUNT", "0123456789abcdef" * 2)).url("k"))
    assert f"{url.netloc}{url.path}".split("my-bucket")[1][-2:] == "/k"
    region = parse_qs(url.query)["X-Amz-Credential"][0].split("/")[2]
    named = {"Cloudflare R2": "auto", "Google Cloud Storage": "auto", "MinIO": "us-east-1"}
    assert region == named.get(service) or f".{region}." in address


def test_the_documented_addresses_are_found() -> None:
    assert len(RECIPES) == 5


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://s3.amazonaws.com", "bkt.s3.ap-south-1.amazonaws.com"),
        ("https://s3.example.com", "s3.example.com"),
    ],
)
def test_a_region_is_given_where_the_address_has_none(address: str, host: str) -> None:
    url = urlsplit(bucket_at(address, "bkt", "ap-south-1").url("k"))
    assert url.netloc == host
    assert "%2Fap-south-1%2F" in url.query


@pytest.mark.parametrize(
    ("address", "name", "problem"),
    [
        ("https://s3.eu-west-1.amazonaws.com", None, "does not contain the bucket's name"),
        ("http://127.0.0.1:9000/", None, "does not contain the bucket's name"),
        ("https://one.s3.eu-west-1.amazonaws.com", "two", "'one'.*'two'"),
        ("https://storage.googleapis.com/one", "two", "'one'.*'two'"),
        ("https://s3.eu-west-1.amazonaws.com/bkt/folder", None, "BUCKET_PREFIX"),
        ("https://bkt.s3.eu-west-1.amazonaws.com/folder", None, "BUCKET_PREFIX"),
        ("https://host/a/b", None, "several parts"),
        ("https://s3api-eu-ro-1.runpod.io/", "vol", "no presigned URLs.*another service"),
        ("https://s3api-eu-ro-1.runpod.io/vol", None, "no presigned URLs"),
        ("https://host", "a b", "cannot be a bucket's name"),
        ("https://host", "../x", "cannot be a bucket's name"),
        ("host/bkt", None, "must be an address"),
        ("ftp://host/bkt", None, "must be an address"),
        ("https://host:port/bkt", None, "must be an address"),
        ("https://[::1/bkt", None, "must be an address"),
    ],
)
def test_an_address_that_leads_to_no_one_bucket_is_explained(
    address: str, name: str | None, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        locate(address, name, None, called="BUCKET_NAME")


ENVIRONMENT = {
    "BUCKET_ENDPOINT_URL": "https://s3.eu-west-1.amazonaws.com",
    "BUCKET_ACCESS_KEY_ID": "id",
    "BUCKET_SECRET_ACCESS_KEY": "secret",
}


def test_without_settings_there_is_no_bucket() -> None:
    assert Bucket.from_settings(Settings()) is None


def test_settings_without_the_buckets_name_are_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"BUCKET_ENDPOINT_URL does not.*BUCKET_NAME"):
        Settings.from_env(ENVIRONMENT)


def test_keys_without_an_address_are_told_and_files_come_inline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = {name: ENVIRONMENT[name] for name in ENVIRONMENT if "KEY" in name}
    assert Bucket.from_settings(Settings.from_env(keys)) is None
    assert "no BUCKET_ENDPOINT_URL" in caplog.text


def test_all_bucket_settings_count() -> None:
    settings = Settings.from_env(
        {
            **ENVIRONMENT,
            "BUCKET_NAME": "bkt",
            "BUCKET_PREFIX": "/made/here/",
            "BUCKET_PUBLIC_URL": "https://cdn.example/files/",
        }
    )
    bucket = Bucket.from_settings(settings)
    assert bucket is not None
    key = bucket.key("job-1", "a/b", "c d.png")
    assert key == "made/here/job-1/a/b/c d.png"
    assert bucket.url(key) == "https://cdn.example/files/made/here/job-1/a/b/c%20d.png"


@pytest.mark.parametrize(
    ("job_id", "subfolder", "filename", "key"),
    [
        ("abc-u1", "", "x.png", "abc-u1/x.png"),
        ("../../other job", "", "x.png", ".._.._other_job/x.png"),
        ("..", "a", "x.png", "_/a/x.png"),
    ],
)
def test_a_key_stays_in_its_jobs_folder(
    job_id: str, subfolder: str, filename: str, key: str
) -> None:
    assert bucket_at("https://host/bkt").key(job_id, subfolder, filename) == key


def s3_config(endpoint_url: str, name: str | None = None) -> S3Config:
    return S3Config(endpoint_url, Secret(ACCESS_KEY), Secret(SECRET_KEY), name)


@pytest.mark.parametrize(
    ("endpoint_url", "problem"),
    [
        ("http://169.254.169.254/bkt", "not public"),
        ("http://localhost:9000/bkt", "not public"),
        ("https://s3.eu-west-1.amazonaws.com", "does not contain"),
        ("nonsense", "must be an address"),
    ],
)
def test_a_callers_bucket_that_cannot_be_used_is_an_invalid_request(
    endpoint_url: str, problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem) as caught:
        Bucket.from_s3_config(s3_config(endpoint_url), Settings(), NEVER)
    assert caught.value.details[0]["path"] == "s3Config.endpointUrl"


def test_a_callers_bucket_has_nothing_of_the_workers(server: S3Server, picture: Path) -> None:
    settings = replace(
        Settings(),
        allow_private_input_urls=True,
        bucket_prefix="worker",
        bucket_public_url="https://cdn.example",
    )
    bucket = Bucket.from_s3_config(s3_config(server.url, "results"), settings, NEVER)
    key = bucket.key("job", "", "x.png")
    assert key == "job/x.png"
    (url,) = bucket.upload([Upload(picture, key, "image/png")], NEVER)
    assert isinstance(url, str)
    assert requests.get(url, timeout=10).content == picture.read_bytes()


def test_files_are_uploaded_and_their_urls_download_them(server: S3Server, tmp_path: Path) -> None:
    bucket = bucket_at(server.url, "results")
    uploads = []
    for index in range(5):
        path = tmp_path / f"{index}.bin"
        path.write_bytes(b"%d" % index * 1000)
        uploads.append(Upload(path, bucket.key("job", f"ä/{index}", "x y+z.png"), "image/png"))
    urls = bucket.upload(uploads, NEVER)
    for upload, url in zip(uploads, urls, strict=True):
        assert isinstance(url, str)
        answer = requests.get(url, timeout=10)
        assert answer.content == upload.path.read_bytes()
        assert answer.headers["Content-Type"] == "image/png"
    assert (server.folder / "results" / "job" / "ä" / "3" / "x y+z.png").is_file()


def test_a_presigned_url_is_valid_for_a_time_and_for_its_file_only(
    server: S3Server, picture: Path
) -> None:
    bucket = bucket_at(server.url, "results")
    upload = Upload(picture, "x.png", "image/png")
    (url,) = bucket.upload([upload], NEVER)
    (short,) = replace(bucket, url_expiry_s=1).upload([upload], NEVER)
    assert isinstance(url, str)
    assert isinstance(short, str)
    time.sleep(1.1)
    assert requests.get(url, timeout=10).ok
    assert requests.get(url.replace("x.png", "y.png"), timeout=10).status_code == 403
    assert not requests.get(short, timeout=10).ok


def test_a_large_file_goes_in_parts(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker_comfyui.delivery.s3.MULTIPART_BYTES", 6 * 1024 * 1024)
    monkeypatch.setattr("worker_comfyui.delivery.s3.PART_BYTES", 5 * 1024 * 1024)
    path = tmp_path / "video.mp4"
    path.write_bytes(bytes(range(256)) * 4096 * 12)
    (url,) = bucket_at(server.url, "results").upload([Upload(path, "v.mp4", "video/mp4")], NEVER)
    assert isinstance(url, str)
    assert requests.get(url, timeout=10).content == path.read_bytes()


def test_a_large_file_that_breaks_off_between_parts_is_no_success(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker_comfyui.delivery.s3.MULTIPART_BYTES", 6 * 1024 * 1024)
    monkeypatch.setattr("worker_comfyui.delivery.s3.PART_BYTES", 5 * 1024 * 1024)
    path = tmp_path / "video.mp4"
    path.write_bytes(bytes(14 * 1024 * 1024))
    with proxying(server.address, Faults(cut_after=7 * 1024 * 1024)) as proxy:
        bucket = replace(bucket_at(proxy.url, "results"), attempts=1)
        (result,) = bucket.upload([Upload(path, "v.mp4", "video/mp4")], NEVER)
    assert isinstance(result, UploadFailed)
    assert not (server.folder / "results" / "v.mp4").exists()


def failure(bucket: Bucket, picture: Path) -> str:
    """Upload a file, which must fail; return the reason."""
    (result,) = bucket.upload([Upload(picture, "x.png", "image/png")], NEVER)
    assert isinstance(result, UploadFailed)
    assert SECRET_KEY not in result.reason
    assert ACCESS_KEY not in result.reason
    assert "\n" not in result.reason
    return result.reason


def test_a_wrong_secret_key_is_explained(server: S3Server, picture: Path) -> None:
    bucket = bucket_at(server.url, "results", secret="wrong")
    reason = failure(bucket, picture)
    assert re.search(r"'results' at 127\.0\.0\.1:\d+ answered SignatureDoesNotMatch", reason)
    assert "check the secret key" in reason


def test_a_short_key_leaves_the_explanation_readable(server: S3Server, picture: Path) -> None:
    bucket = bucket_at(server.url, "results", secret="s")
    assert "the bucket 'results' at 127.0.0.1" in failure(bucket, picture)


def test_an_unknown_access_key_is_explained(server: S3Server, picture: Path) -> None:
    bucket = replace(bucket_at(server.url, "results"), access_key=Secret("unknown-key"))
    reason = failure(bucket, picture)
    assert "answered InvalidAccessKeyId" in reason
    assert "unknown-key" not in reason


def test_a_missing_bucket_is_explained(server: S3Server, picture: Path) -> None:
    assert "answered NoSuchBucket" in failure(bucket_at(server.url, "other"), picture)


def test_a_server_that_is_gone_is_explained(server: S3Server, picture: Path) -> None:
    server.kill()
    assert "could not be reached" in failure(bucket_at(server.url, "results"), picture)


def test_a_server_that_cuts_every_upload_is_retried_then_explained(
    server: S3Server, picture: Path
) -> None:
    with proxying(server.address, Faults(cut_after=300_000)) as proxy:
        reason = failure(bucket_at(proxy.url, "results"), picture)
        assert proxy.faults.connections == 2
    assert re.search("closed the connection|could not be reached", reason)
    assert not (server.folder / "results" / "x.png").exists()


def test_an_upload_that_is_cut_once_succeeds_at_the_second_attempt(
    server: S3Server, picture: Path
) -> None:
    with proxying(server.address, Faults(cut_after=300_000)) as proxy:

        def heal() -> bool:
            if proxy.faults.connections:
                proxy.faults.cut_after = 300_000 if proxy.faults.connections == 1 else None
            return False

        bucket = replace(bucket_at(proxy.url, "results"), attempts=4)
        (url,) = bucket.upload([Upload(picture, "x.png", "image/png")], Stop(heal))
        assert isinstance(url, str)
        assert requests.get(url, timeout=10).content == picture.read_bytes()


def test_a_server_that_stalls_is_given_up_in_bounded_time(server: S3Server, picture: Path) -> None:
    with proxying(server.address, Faults(stall_after=300_000)) as proxy:
        started = time.monotonic()
        bucket = replace(bucket_at(proxy.url, "results"), read_timeout_s=0.5)
        reason = failure(bucket, picture)
        assert time.monotonic() - started < 10
    assert "did not answer in time" in reason


def test_a_slow_server_is_waited_for(server: S3Server, picture: Path) -> None:
    with proxying(server.address, Faults(bytes_per_second=1_000_000)) as proxy:
        bucket = bucket_at(proxy.url, "results")
        (url,) = bucket.upload([Upload(picture, "x.png", "image/png")], NEVER)
        assert isinstance(url, str)


def test_after_one_failure_no_further_upload_is_begun(server: S3Server, picture: Path) -> None:
    with proxying(server.address, Faults(cut_after=0)) as proxy:
        bucket = replace(bucket_at(proxy.url, "results"), attempts=1)
        uploads = [Upload(picture, f"{i}.png", "image/png") for i in range(40)]
        results = bucket.upload(uploads, NEVER)
        assert all(isinstance(result, UploadFailed) for result in results)
        assert proxy.faults.connections <= 8


def test_a_cancelled_upload_ends_at_once_and_leaves_no_file(
    server: S3Server, tmp_path: Path
) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(bytes(50_000_000))
    with proxying(server.address, Faults(bytes_per_second=2_000_000)) as proxy:
        bucket = bucket_at(proxy.url, "results")
        bucket.prepare()
        started = time.monotonic()
        with pytest.raises(JobCancelled):
            bucket.upload(
                [Upload(video, "x.mp4", "video/mp4")], Stop(lambda: bool(proxy.faults.connections))
            )
        assert time.monotonic() - started < 10
        assert not uploads_under_way()
    assert not (server.folder / "results" / "x.mp4").exists()


def test_a_file_that_is_gone_is_not_taken_for_a_fault_of_the_bucket(
    server: S3Server, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        bucket_at(server.url, "results").upload(
            [Upload(tmp_path / "gone.png", "x.png", "image/png")], NEVER
        )


def uploads_under_way() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("upload")]
