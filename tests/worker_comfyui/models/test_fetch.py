"""One file from a hub that behaves, and from one that does not."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.hub import Hub, safetensors
from tests.support.transfers import PIECE, at_civitai, caller, get, means, wanted
from tests.support.waiting import wait_until
from worker_comfyui.models.transfer import lines
from worker_comfyui.models.transfer.errors import (
    Damaged,
    NoRoom,
    Refused,
    TransferError,
    Unreachable,
)
from worker_comfyui.models.transfer.fetch import fetch
from worker_comfyui.models.transfer.progress import Progress
from worker_comfyui.models.transfer.rules import Tokens

ROOT = Path(__file__).parents[3]
KEY = "a/b/m.safetensors"
URL = f"hf://{KEY}"
CONTENT = safetensors(20 * PIECE + 1234)
TOKEN = "hf_made_up_for_this_test"
OTHER = "hf_of_somebody_else"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(folder=tmp_path / "hub").running() as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield

    def left() -> set[threading.Thread]:
        new = set(threading.enumerate()) - before
        return {thread for thread in new if thread.name.startswith("model")}

    wait_until(lambda: not left(), 8, lambda: f"threads are left: {left()}")


class Stopped(Exception):
    """What a cancelled job raises."""


def test_a_file_arrives_whole_from_many_connections(hub: Hub, tmp_path: Path) -> None:
    digest = hub.add(KEY, CONTENT)
    hub.bytes_per_s = 40 * PIECE
    fetched = get(hub, tmp_path / "staging", URL)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.sha256 == digest
    assert fetched.received == len(CONTENT) == hub.sent(KEY)
    assert hub.most_at_once > 3


def test_no_request_is_for_more_than_a_piece_however_large_the_file(
    hub: Hub, tmp_path: Path
) -> None:
    """The hub's network gives no whole file above 50 GB."""
    hub.add(KEY, CONTENT)
    get(hub, tmp_path, URL)
    asked = [re.fullmatch(r"bytes=(\d+)-(\d+)", a.byte_range or "") for a in hub.asked if a.is_cdn]
    assert len(asked) > len(CONTENT) // PIECE
    assert all(part and int(part[2]) - int(part[1]) < PIECE for part in asked)


def test_the_commit_is_pinned_so_that_all_parts_are_of_one_file(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    fetched = get(hub, tmp_path, URL)
    assert fetched.identity == (
        "huggingface.co/a/b@0123456789abcdef0123456789abcdef01234567/m.safetensors"
    )


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.cut[KEY] = [1000, 2000, PIECE // 2]
    fetched = get(hub, tmp_path, URL)
    assert fetched.path.read_bytes() == CONTENT
    assert hub.sent(KEY) == len(CONTENT)


def test_what_an_ended_transfer_brought_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.bytes_per_s = 10 * PIECE
    started = time.monotonic()

    def tick() -> None:
        if hub.sent_so_far(KEY) > 5 * PIECE:
            raise Stopped

    with pytest.raises(Stopped):
        fetch(wanted(hub, URL), tmp_path, means(hub), caller(tick))
    first = hub.sent(KEY)
    assert 0 < first < len(CONTENT)
    assert time.monotonic() - started < 5
    hub.bytes_per_s = None
    hub.served.clear()
    fetched = get(hub, tmp_path, URL)
    assert fetched.path.read_bytes() == CONTENT
    assert hub.sent(KEY) <= len(CONTENT) - first + 8 * PIECE  # at most the pieces in hand


def test_a_piece_that_is_damaged_on_the_disk_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.cut[KEY] = [0] * 100
    hub.cut[KEY][:10] = [PIECE] * 10
    with pytest.raises(Unreachable):
        get(hub, tmp_path, URL)
    [data] = tmp_path.glob("*/data")
    with data.open("r+b") as file:
        file.seek(10)
        file.write(b"wrong")
    hub.cut.clear()
    assert get(hub, tmp_path, URL).path.read_bytes() == CONTENT


def test_an_end_comes_at_once_although_the_server_says_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.bytes_per_s = 20  # one byte at a time
    ends = time.monotonic() + 0.5

    def tick() -> None:
        if time.monotonic() > ends:
            raise Stopped

    with pytest.raises(Stopped):
        fetch(wanted(hub, URL), tmp_path, means(hub), caller(tick))
    assert time.monotonic() < ends + 8


def test_a_connection_that_stands_still_is_made_anew(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.stalls[KEY] = 2
    fetched = fetch(wanted(hub, URL), tmp_path, means(hub, stall_s=0.3), caller())
    assert fetched.path.read_bytes() == CONTENT


def test_a_slow_line_is_not_taken_for_one_that_stands_still(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "SLOW_SLICE_BYTES", 4_000)
    monkeypatch.setattr(lines, "SLOW_S", 0.02)
    content = safetensors(60_000)
    hub.add(KEY, content)
    hub.bytes_per_s = 40_000
    fetch(wanted(hub, URL), tmp_path, means(hub, stall_s=1.0, piece_bytes=len(content)), caller())
    assert hub.sent(KEY) == len(content)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
@pytest.mark.parametrize("part", ["a/b/resolve", "cdn:a/b/m.safetensors"])
def test_an_answer_that_passes_is_asked_for_again(
    hub: Hub, tmp_path: Path, status: int, part: str
) -> None:
    hub.add(KEY, CONTENT)
    hub.answers[part] = [(status, {}), (status, {})]
    assert get(hub, tmp_path, URL).path.read_bytes() == CONTENT


@pytest.mark.parametrize("header", [{"Retry-After": "1"}, {"RateLimit": '"resolvers";r=0;t=1'}])
def test_a_server_that_asks_to_wait_is_given_the_time(
    hub: Hub, tmp_path: Path, header: dict[str, str]
) -> None:
    hub.add(KEY, CONTENT)
    hub.answers["a/b/resolve"] = [(429, header)]
    started = time.monotonic()
    get(hub, tmp_path, URL)
    assert time.monotonic() - started >= 1


def test_a_server_that_stays_away_is_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.answers["a/b/resolve"] = [(503, {})] * 100
    with pytest.raises(Unreachable, match=r"503 Service Unavailable, 4 times in a row.*kept"):
        get(hub, tmp_path, URL)


def test_a_server_that_allows_few_connections_gets_few(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.max_at_once = 2
    hub.bytes_per_s = 5 * PIECE
    assert get(hub, tmp_path, URL).path.read_bytes() == CONTENT


def test_a_signed_link_that_ends_is_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.links_valid_for = 5
    assert get(hub, tmp_path, URL).path.read_bytes() == CONTENT
    assert len(hub.links) >= 4


def test_a_token_goes_to_its_own_host_alone(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.gated["a/b"] = TOKEN
    fetch(wanted(hub, URL), tmp_path, means(hub, Tokens(hub=TOKEN)), caller())
    assert {a.authorization for a in hub.asked if not a.is_cdn} == {f"Bearer {TOKEN}"}
    assert {a.authorization for a in hub.asked if a.is_cdn} == {None}


def test_a_token_is_not_sent_to_a_host_that_is_named_in_its_place(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    tokens = Tokens(hub=TOKEN, civitai=TOKEN)
    link = f"{hub.url}/a/b/resolve/main/m.safetensors"
    changed = means(hub, tokens)
    changed = means(hub, rules=type(changed.rules)(tokens=tokens, trusted=frozenset({"127.0.0.1"})))
    fetch(wanted(hub, link), tmp_path, changed, caller())
    assert {a.authorization for a in hub.asked} == {None}


REFUSALS = [
    ({"gated": {"a/b": TOKEN}}, None, "needs a token: accept the terms at .*/a/b, make a read"),
    (
        {"gated": {"a/b": TOKEN}},
        OTHER,
        "was refused \\(403\\): accept the terms at .*/a/b with the",
    ),
    ({"known_tokens": set()}, OTHER, "the hub does not know the token in HF_TOKEN"),
    ({"answers": {"cdn:": [(403, {})] * 99}}, TOKEN, "which delivers the file, refused the link"),
]


@pytest.mark.parametrize(("fault", "token", "sentence"), REFUSALS)
def test_missing_terms_a_wrong_token_and_a_barred_network_are_three_sentences(
    hub: Hub, tmp_path: Path, fault: dict[str, object], token: str | None, sentence: str
) -> None:
    hub.add(KEY, CONTENT)
    for name, value in fault.items():
        setattr(hub, name, value)
    with pytest.raises(Refused, match=sentence) as caught:
        fetch(wanted(hub, URL), tmp_path, means(hub, Tokens(hub=token)), caller())
    assert str(token) not in str(caught.value)
    assert "-secret" not in str(caught.value)  # of the signed link
    assert not list(tmp_path.glob("*/data"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hf://a/b/gone.safetensors", "a/b: gone.safetensors is not on the hub; see"),
        ("hf://a/gone/m.safetensors", "no such repository, or it is private and HF_TOKEN is not"),
        ("hf://a/b/m.safetensors@other", "does not have the revision other; see .*/commits"),
    ],
)
def test_what_is_not_there_is_named(hub: Hub, tmp_path: Path, text: str, sentence: str) -> None:
    hub.add(KEY, CONTENT)
    with pytest.raises(Refused, match=sentence):
        get(hub, tmp_path, text)


def test_a_web_page_is_never_taken_for_a_model(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.pages.add(KEY)
    with pytest.raises(Refused, match=r"gives a web page \(a login, a warning or an error\)"):
        get(hub, tmp_path, URL)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<html>log in</html>" * 9, "is a web page or an XML error instead of a model"),
        (b"version https://git-lfs.github.com/spec/v1\n" * 3, "is a git-lfs pointer"),
        (b'{"error": "no"}' + b" " * 99, "is an error message instead of a model"),
        (b"PK\x03\x04" * 500, "is not a safetensors file: it does not begin as one"),
        ((1 << 40).to_bytes(8, "little") + b"{" * 99, "does not begin as one"),
        (safetensors(5000)[:3000], "is cut off: it has 3000 bytes, and its header says 5000"),
        (safetensors(5000) + b"x", "is followed by something else"),
        ((50).to_bytes(8, "little") + b"{" * 50, "its header cannot be read"),
    ],
)
def test_what_is_no_model_is_refused_whatever_its_name_says(
    hub: Hub, tmp_path: Path, content: bytes, sentence: str
) -> None:
    hub.add(KEY, content)
    with pytest.raises(Damaged, match=sentence):
        get(hub, tmp_path, URL)
    assert not list(tmp_path.glob("*/data"))


def test_what_is_no_model_is_seen_by_its_head_before_the_rest_is_fetched(
    hub: Hub, tmp_path: Path
) -> None:
    hub.add(KEY, b"no model" * 40 * PIECE)
    hub.bytes_per_s = 8 * PIECE
    with pytest.raises(Damaged, match="does not begin as one"):
        get(hub, tmp_path, URL)
    assert hub.sent(KEY) < 40 * PIECE


def test_gguf_is_known_by_its_head(hub: Hub, tmp_path: Path) -> None:
    good = b"GGUF" + (3).to_bytes(4, "little") + (7).to_bytes(8, "little") + bytes(1000)
    hub.add("a/b/m.gguf", good)
    assert get(hub, tmp_path, "hf://a/b/m.gguf", name="m.gguf").size == len(good)
    hub.add("a/b/n.gguf", b"GGML" + good[4:])
    with pytest.raises(Damaged, match=r"n\.gguf is not a GGUF file"):
        get(hub, tmp_path, "hf://a/b/n.gguf", name="n.gguf")


def test_other_formats_are_for_the_operator_alone(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/b/m.pth", b"PK\x03\x04" * 500)
    assert get(hub, tmp_path, "hf://a/b/m.pth", name="m.pth").size == 2000
    with pytest.raises(Damaged, match="neither a safetensors nor a GGUF"):
        get(hub, tmp_path, "hf://a/b/m.pth", name="m.pth", safe_only=True)


def test_a_hash_that_is_announced_otherwise_is_noticed_before_anything_comes(
    hub: Hub, tmp_path: Path
) -> None:
    hub.add(KEY, CONTENT)
    with pytest.raises(Damaged, match="the file was replaced, or the hash is wrong"):
        get(hub, tmp_path, URL, sha256="0" * 64)
    with pytest.raises(Damaged, match="the file was replaced, or the number is wrong"):
        get(hub, tmp_path, URL, bytes=5)
    assert hub.sent(KEY) == 0


@pytest.mark.parametrize("announced", ["0" * 64, None])
def test_a_wrong_hash_is_noticed_at_the_end_and_the_file_deleted(
    hub: Hub, tmp_path: Path, announced: str | None
) -> None:
    digest = hub.add(KEY, CONTENT)
    hub.announced_sha256[KEY] = announced
    wrong = {"sha256": "1" * 64} if announced is None else {}
    with pytest.raises(Damaged, match=f"arrived damaged: SHA-256 {digest} instead of [01]+"):
        get(hub, tmp_path / "staging", URL, **wrong)
    assert not list((tmp_path / "staging").iterdir())


def test_bytes_that_change_on_the_way_are_noticed(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.damaged.add(KEY)
    with pytest.raises(Damaged, match="arrived damaged"):
        get(hub, tmp_path / "staging", URL)
    assert not list((tmp_path / "staging").iterdir())


def test_a_hub_that_lies_about_the_length_is_found_out(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.announced_size[KEY] = 5
    with pytest.raises(Damaged, match=f"says 5 bytes, and what it redirects to has {len(CONTENT)}"):
        get(hub, tmp_path, URL)


def test_a_server_that_never_sends_all_is_found_out(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.cut[KEY] = [0] * 1000
    with pytest.raises(Unreachable, match="broke off, 4 times in a row; what came so far is kept"):
        get(hub, tmp_path, URL)


def test_a_server_without_ranges_gives_the_file_as_a_whole(hub: Hub, tmp_path: Path) -> None:
    digest = hub.add(KEY, CONTENT)
    hub.without_ranges.add(KEY)
    hub.cut[KEY] = [PIECE, 5 * PIECE]
    fetched = get(hub, tmp_path, URL)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.sha256 == digest


@pytest.mark.parametrize("without_ranges", [True, False])
def test_a_file_that_is_too_large_is_refused_before_it_comes(
    hub: Hub, tmp_path: Path, without_ranges: bool
) -> None:
    hub.add(KEY, CONTENT)
    hub.bytes_per_s = 20 * PIECE
    if without_ranges:
        hub.without_ranges.add(KEY)
    with pytest.raises(NoRoom, match=r"m?odel.safetensors has 1.3 MB, and at most 1.0 MB are"):
        get(hub, tmp_path, URL, max_bytes=1_000_000)
    assert hub.sent(KEY) < len(CONTENT)


def test_a_disk_that_is_too_small_is_seen_before_anything_comes(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(KEY, CONTENT)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(NoRoom, match=r"needs 1.3 MB more, and .* has 0.0 MB free: make room"):
        get(hub, tmp_path, URL)
    assert hub.sent(KEY) == 0


def test_progress_says_how_far_it_is_and_how_fast(hub: Hub, tmp_path: Path) -> None:
    hub.add(KEY, CONTENT)
    hub.bytes_per_s = len(CONTENT) // 4  # of each connection
    seen: list[Progress] = []
    fetch(wanted(hub, URL), tmp_path, means(hub, connections=2), caller(report=seen.append))
    assert seen
    assert all(0 <= p.done <= len(CONTENT) and p.total == len(CONTENT) for p in seen)
    assert str(Progress("flux.safetensors", 43, 100, 310e6)) == (
        "fetching flux.safetensors, 43 %, 310 MB/s"
    )
    assert str(Progress("x", 5_000_000, None, 1e6)) == "fetching x, 5.0 MB, 1 MB/s"


def civitai(hub: Hub, **more: object) -> str:
    digest = hub.add("c/v/lora.safetensors", CONTENT)
    file = {
        "id": 7,
        "name": "my lora.safetensors",
        "primary": True,
        "path": "c/v/lora.safetensors",
        "hashes": {"SHA256": digest.upper()},
    }
    hub.civitai["42"] = {"model": {"type": "LORA"}, "files": [file], **more}
    return digest


@pytest.mark.parametrize(
    "text", ["civitai://42", "{}/models/9?modelVersionId=42", "urn:air:sdxl:lora:civitai:9@42"]
)
def test_a_version_of_civitai_is_fetched_by_one_connection_with_its_hash(
    hub: Hub, tmp_path: Path, text: str
) -> None:
    digest = civitai(hub)
    hub.announced_sha256["c/v/lora.safetensors"] = None
    hub.civitai_token = TOKEN
    fetched = fetch(
        wanted(hub, text.format(at_civitai(hub))),
        tmp_path,
        means(hub, Tokens(civitai=TOKEN)),
        caller(),
    )
    assert fetched.sha256 == digest
    assert fetched.identity == "civitai.com/42?fileId=7"
    assert hub.most_at_once == 1
    assert {a.authorization for a in hub.asked if a.is_cdn} == {None}
    assert all(TOKEN not in a.path for a in hub.asked)


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, "Civitai wants a login for this file: .* set CIVITAI_TOKEN"),
        (OTHER, "CIVITAI_TOKEN is wrong or expired, or its account may not"),
    ],
)
def test_civitai_s_login_page_is_a_sentence(
    hub: Hub, tmp_path: Path, token: str | None, sentence: str
) -> None:
    civitai(hub)
    hub.civitai_token = TOKEN
    with pytest.raises(Refused, match=sentence):
        fetch(wanted(hub, "civitai://42"), tmp_path, means(hub, Tokens(civitai=token)), caller())


def test_every_error_is_one_that_callers_know(hub: Hub, tmp_path: Path) -> None:
    hub.elsewhere[KEY] = "ftp://example.com/x"
    hub.add(KEY, CONTENT)
    with pytest.raises(TransferError, match="models are fetched by https only"):
        get(hub, tmp_path, URL)
    hub.elsewhere[KEY] = f"{hub.url}/a/b/resolve/main/m.safetensors"
    with pytest.raises(TransferError, match="redirects more than 8 times"):
        get(hub, tmp_path, URL)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate for 127.0.0.1 with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + plain)
    return path


@pytest.mark.parametrize("is_trusted", [True, False])
def test_tls_is_spoken_with_those_whose_certificate_is_valid(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch, is_trusted: bool
) -> None:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    trusting = ssl.create_default_context()
    if is_trusted:
        trusting.load_verify_locations(certificate)
    monkeypatch.setattr("worker_comfyui.models.transfer.lines._tls", lambda: trusting)
    with Hub(folder=tmp_path / "hub", tls=served).running() as hub:
        hub.add(KEY, CONTENT)
        if is_trusted:
            assert get(hub, tmp_path / "staging", URL).path.read_bytes() == CONTENT
        else:
            with pytest.raises(Refused, match="has no valid certificate: self-signed certificate"):
                get(hub, tmp_path / "staging", URL)


MEMORY = """
import resource, sys
from pathlib import Path
from tests.support.hub import Hub
from tests.support.transfers import PIECE, caller, means, wanted
from worker_comfyui.models.transfer.fetch import fetch
from worker_comfyui.models.transfer.partial import PIECE_BYTES
hub = Hub(folder=Path("/nowhere"), url=sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fetched = fetch(
    wanted(hub, "hf://a/b/m.safetensors"), Path(sys.argv[2]),
    means(hub, piece_bytes=PIECE_BYTES), caller()
)
print(fetched.size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(hub: Hub, tmp_path: Path) -> None:
    size = 1_000_000_000
    header = json.dumps({"t": {"dtype": "U8", "shape": [1], "data_offsets": [0, size - 500]}})
    head = (492).to_bytes(8, "little") + header.ljust(492).encode()
    path = tmp_path / "hub" / KEY
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)  # a hole: the hub's side of it takes no disk
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, hub.url, str(tmp_path / "staging")],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    got, kilobytes = map(int, ran.stdout.split())
    assert got == size
    # Eight connections with a piece of 8 MB each, and a few pieces that wait for the hash.
    assert kilobytes < 200_000
