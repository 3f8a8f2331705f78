"""The store: what it has, shared by workers, within its bounds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.hub import COMMIT, Hub, safetensors
from tests.support.transfers import caller
from tests.support.volume import cached_model
from tests.support.waiting import wait_until
from worker_comfyui.models import cached
from worker_comfyui.models.catalogue import Entry, Origin
from worker_comfyui.models.policy import Policy
from worker_comfyui.models.store import Kept, Store
from worker_comfyui.models.transfer import lease
from worker_comfyui.models.transfer.deliver import Place, Workshop
from worker_comfyui.models.transfer.errors import Damaged, NoRoom, Refused
from worker_comfyui.models.transfer.rules import connect_anywhere
from worker_comfyui.models.uses import Use, in_use
from worker_comfyui.volume.fetched import Location

ROOT = Path(__file__).parents[3]
MEGA = 1_000_000
SMALL = safetensors(MEGA)

Get = Callable[..., Kept]


def entry(url: str = "hf://a/b/m.safetensors", **more: object) -> Entry:
    values = {"folder": "loras", "name": "m.safetensors", "origin": Origin.REQUEST, "path": "x"}
    return Entry(**{"url": url, **values, **more})  # type: ignore[arg-type]


def policy(hub: Hub, **more: object) -> Policy:
    values = {"allow": True, "hosts": frozenset({"huggingface.co"}), "max_bytes": 500 * MEGA}
    return Policy(
        **{"hub": hub.url, "connect": connect_anywhere, **values, **more}  # type: ignore[arg-type]
    )


def make(tmp_path: Path, **more: object) -> Store:
    return Store(
        Location(tmp_path / "store", tmp_path / "links"),
        volume=tmp_path / "volume",
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def get(hub: Hub, tmp_path: Path) -> Get:
    def get(wanted: Entry, store: Store | None = None, use: Use | None = None) -> Kept:
        store = store or make(tmp_path)
        with store.use() as own:
            return store.ensure(wanted, policy(hub), use or own, caller(), lambda *_: False)

    return get


def listed(tmp_path: Path) -> list[str]:
    models = tmp_path / "store" / "models"
    return sorted(str(p.relative_to(models)) for p in models.rglob("*") if p.is_file())


def test_a_model_is_fetched_once_and_then_costs_no_request(
    hub: Hub, tmp_path: Path, get: Get
) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    first = get(entry())
    assert first.how == "fetched"
    assert first.path.read_bytes() == SMALL
    asked = len(hub.asked)
    second = get(entry())
    assert second.how == "kept"
    assert second.path == first.path
    assert len(hub.asked) == asked
    assert listed(tmp_path) == ["loras/m.safetensors"]
    assert not list((tmp_path / "store" / "partial").iterdir())
    assert not list((tmp_path / "store" / "leases").iterdir())
    assert not list((tmp_path / "store" / "uses").iterdir())


def test_one_name_keeps_one_content(hub: Hub, get: Get) -> None:
    other = safetensors(MEGA, seed=1)
    hub.add("a/b/m.safetensors", SMALL)
    hub.add("c/d/m.safetensors", other)
    first, second = get(entry()), get(entry("hf://c/d/m.safetensors"))
    assert first.name == "m.safetensors"
    assert second.name != first.name
    assert second.name.startswith("m.")
    assert second.name.endswith(".safetensors")
    assert second.path.read_bytes() == other
    asked = len(hub.asked)
    assert get(entry("hf://c/d/m.safetensors")).name == second.name
    assert get(entry()).path.read_bytes() == SMALL
    assert len(hub.asked) == asked


def test_the_same_bytes_from_elsewhere_are_not_fetched_again(hub: Hub, get: Get) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    hub.add("c/d/m.safetensors", SMALL)
    get(entry())
    again = get(entry("hf://c/d/m.safetensors"))
    assert (again.name, again.how) == ("m.safetensors", "kept")
    assert hub.sent("c/d/m.safetensors") == 0


def test_a_hash_finds_a_file_whatever_its_link(hub: Hub, get: Get) -> None:
    digest = hub.add("a/b/m.safetensors", SMALL)
    get(entry())
    asked = len(hub.asked)
    assert get(entry("hf://some/where/else.safetensors", sha256=digest)).how == "kept"
    assert len(hub.asked) == asked


def test_a_name_that_comfyui_has_already_is_not_hidden_behind_it(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    store = make(tmp_path)
    with store.use() as use:
        kept = store.ensure(
            entry(), policy(hub), use, caller(), lambda _, name: name == "m.safetensors"
        )
    assert kept.name != "m.safetensors"


def test_nothing_partial_is_ever_listed(hub: Hub, tmp_path: Path, get: Get) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    hub.damaged.add("a/b/m.safetensors")
    with pytest.raises(Damaged):
        get(entry())
    assert listed(tmp_path) == []


FETCH = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/src"]
from tests.worker_comfyui.models.test_store import entry, make, policy
from tests.support.hub import Hub
from tests.support.transfers import caller
hub = Hub(folder=Path("/nowhere"), url=sys.argv[3])
store = make(Path(sys.argv[2]))
said = []
with store.use() as use:
    kept = store.ensure(entry(), policy(hub), use, caller(report=said.append), lambda *_: False)
print(kept.how, kept.received, kept.path, any(p.elsewhere for p in said), flush=True)
"""


def worker(tmp_path: Path, hub: Hub) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(ROOT), str(tmp_path), hub.url],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_three_workers_on_one_volume_fetch_a_file_once(hub: Hub, tmp_path: Path) -> None:
    content = safetensors(40 * MEGA)
    hub.add("a/b/m.safetensors", content)
    hub.bytes_per_s = 4 * MEGA
    workers = [worker(tmp_path, hub) for _ in range(3)]
    answers = [process.communicate(timeout=60)[0].split() for process in workers]
    assert [process.returncode for process in workers] == [0, 0, 0]
    assert sorted(answer[0] for answer in answers) == ["fetched", "kept", "kept"]
    assert {answer[2] for answer in answers} == {str(tmp_path / "store/models/loras/m.safetensors")}
    assert Path(answers[0][2]).read_bytes() == content
    assert hub.sent("a/b/m.safetensors") == len(content)
    assert [a[3] for a in answers if a[0] == "kept"] == ["True", "True"]  # and said so


def test_what_a_killed_worker_left_is_gone_on_with_by_the_next(hub: Hub, tmp_path: Path) -> None:
    content = safetensors(80 * MEGA)
    hub.add("a/b/m.safetensors", content)
    hub.bytes_per_s = 4 * MEGA
    first = worker(tmp_path, hub)
    wait_until(lambda: hub.sent_so_far("a/b/m.safetensors") >= 30 * MEGA)
    second = worker(tmp_path, hub)  # waits for the first one
    time.sleep(1.5)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert listed(tmp_path) == []
    time.sleep(0.3)
    before = hub.sent_so_far("a/b/m.safetensors")
    hub.bytes_per_s = None
    how, received, path, _ = second.communicate(timeout=60)[0].split()
    assert how == "fetched"
    assert Path(path).read_bytes() == content
    assert int(received) < len(content) - 20 * MEGA
    assert hub.sent("a/b/m.safetensors") - before <= len(content) - 20 * MEGA
    # Its lease and its use are not in the way of anybody.
    store = make(tmp_path, max_bytes=len(content) + MEGA)
    hub.add("a/b/n.safetensors", safetensors(2 * MEGA))
    with store.use() as use:
        kept = store.ensure(
            entry("hf://a/b/n.safetensors", name="n.safetensors"),
            policy(hub),
            use,
            caller(),
            lambda *_: False,
        )
    assert kept.how == "fetched"
    assert listed(tmp_path) == ["loras/n.safetensors"]


def test_a_lease_whose_worker_is_silent_is_lost(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    workshop = Workshop(folder=tmp_path / "store", beat_s=0.1, stale_s=0.5)
    store = make(tmp_path, workshop=workshop)
    place = Place(path=tmp_path / "store/models/loras/m.safetensors", is_there=lambda: False)
    # As a worker on another machine left it, which cannot be looked at from here.
    workshop.leases.mkdir(parents=True)
    (workshop.leases / f"{place.key}.1").write_text(json.dumps({"who": ["elsewhere", "1", "2"]}))
    started = time.monotonic()
    with store.use() as use:
        kept = store.ensure(entry(), policy(hub), use, caller(), lambda *_: False)
    assert kept.how == "fetched"
    assert 0.5 <= time.monotonic() - started < 10
    assert not list(workshop.leases.iterdir())


def test_a_lease_that_is_touched_is_waited_for(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    workshop = Workshop(folder=tmp_path / "store", beat_s=0.1, stale_s=0.5)
    store = make(tmp_path, workshop=workshop)
    place = Place(path=tmp_path / "store/models/loras/m.safetensors", is_there=lambda: False)
    workshop.leases.mkdir(parents=True)
    lease = workshop.leases / f"{place.key}.1"
    lease.write_text(json.dumps({"who": ["elsewhere", "1", "2"]}))
    until = time.monotonic() + 1.5

    def touch() -> None:
        if time.monotonic() < until:
            os.utime(lease)

    with store.use() as use:
        store.ensure(entry(), policy(hub), use, caller(touch), lambda *_: False)
    assert time.monotonic() > until


def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(
    hub: Hub, tmp_path: Path, get: Get
) -> None:
    for number in range(4):
        hub.add(f"a/b/{number}.safetensors", safetensors(MEGA, seed=number))

    def one(number: int) -> Entry:
        return entry(f"hf://a/b/{number}.safetensors", name=f"{number}.safetensors")

    store = make(tmp_path, max_bytes=3 * MEGA + 1000)
    with store.use() as use:
        store.ensure(one(0), policy(hub), use, caller(), lambda *_: False)
        for number in (1, 2):
            time.sleep(0.02)
            get(one(number), store)
        foreign = tmp_path / "store" / "models" / "loras" / "mine.safetensors"
        foreign.write_bytes(SMALL)  # somebody put it there by hand
        time.sleep(0.02)
        get(one(1), store)  # so 2 is the oldest that is not in use
        get(one(3), store)
        assert listed(tmp_path) == [
            *("loras/0.safetensors", "loras/1.safetensors", "loras/3.safetensors"),
            "loras/mine.safetensors",
        ]
        hub.add("a/b/big.safetensors", safetensors(int(2.5 * MEGA)))
        big = entry("hf://a/b/big.safetensors", name="big.safetensors")
        with pytest.raises(NoRoom, match=r"may take 3.0 MB together \(MODEL_CACHE_GB\)"):
            get(big, store)
    assert foreign.exists()


def test_what_the_platform_cached_is_used_in_place_of_a_download(
    hub: Hub, tmp_path: Path, get: Get
) -> None:
    snapshot = cached_model(tmp_path / "volume", "A/B", ("m.safetensors",))
    kept = get(entry())
    assert kept.how == "cached"
    assert kept.path == tmp_path / "links" / "loras" / "m.safetensors"
    assert kept.path.samefile(snapshot / "m.safetensors")
    assert hub.asked == []
    assert get(entry()).path == kept.path
    # Gone from the cache: the link leads nowhere, and the hub is asked.
    shutil.rmtree(tmp_path / "volume")
    hub.add("a/b/m.safetensors", SMALL)
    assert get(entry()).how == "fetched"


@pytest.mark.parametrize("inside", ["", f"snapshots/{COMMIT}/"])
@pytest.mark.parametrize("revision", ["", f"@{COMMIT}"])
def test_the_model_store_of_the_platform_is_known_in_both_forms(
    hub: Hub,
    tmp_path: Path,
    inside: str,
    revision: str,
) -> None:
    root = tmp_path / "model-store"
    file = root / "a" / "b" / COMMIT / inside / "vae" / "m.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(SMALL)
    found = cached.find(
        policy(hub).source(entry(f"hf://A/B/vae/m.safetensors{revision}")), tmp_path, root
    )
    assert found == file
    other = policy(hub).source(entry(f"hf://A/B/vae/m.safetensors@{'f' * 40}"))
    assert cached.find(other, tmp_path, root) is None


def test_a_cached_file_that_is_cut_off_is_not_used(hub: Hub, tmp_path: Path, get: Get) -> None:
    snapshot = cached_model(tmp_path / "volume", "a/b", ("m.safetensors",))
    (snapshot / "m.safetensors").write_bytes(SMALL[:-5])
    hub.add("a/b/m.safetensors", SMALL)
    assert get(entry()).how == "fetched"


def test_a_cached_file_is_never_given_under_a_name_of_other_content(
    hub: Hub, tmp_path: Path
) -> None:
    cached_model(tmp_path / "volume", "a/b", ("m.safetensors",))
    store = make(tmp_path)
    with store.use() as use, pytest.raises(NoRoom, match="other content have its names"):
        store.ensure(entry(), policy(hub), use, caller(), lambda *_: True)


def test_a_cache_that_cannot_be_read_has_nothing(hub: Hub, tmp_path: Path) -> None:
    cached_model(tmp_path / "volume", "a/b", ("m.safetensors",))
    endless = policy(hub).source(entry(f"hf://a/b/{'x' * 300}.safetensors"))
    assert cached.find(endless, tmp_path / "volume") is None


def test_models_that_are_fetched_at_once_are_all_in_use(tmp_path: Path) -> None:
    titles = {f"loras/{number}.safetensors" for number in range(40)}
    with Use(tmp_path / "uses") as use, ThreadPoolExecutor(8) as pool:
        list(pool.map(use.add, titles))
        assert in_use(tmp_path / "uses") == titles


def test_what_may_be_in_use_is_kept_where_nobody_can_say_how_old_it_is(tmp_path: Path) -> None:
    here = tmp_path / "file"
    here.touch()
    nowhere = here / "folder"  # where no file can be made, as on a full disk
    assert lease.age(here, nowhere) == 0
    assert lease.age(tmp_path / "gone", tmp_path) == float("inf")


@pytest.mark.parametrize(
    ("changed", "wanted", "sentence"),
    [
        ({"allow": False}, entry(), "its operator can set ALLOW_MODEL_DOWNLOADS=true"),
        ({}, entry("https://example.com/x.safetensors"), "operator can add example.com to MODEL_H"),
        ({}, entry("civitai://5"), "operator can add civitai.com to MODEL_HOSTS"),
        ({}, entry(name="m.ckpt"), "only .gguf, .safetensors, .sft files are fetched for requests"),
        ({"max_bytes": 1000}, entry(), r"at most 0.0 MB are allowed \(MODEL_MAX_GB\)"),
    ],
)
def test_what_the_operator_did_not_allow_is_refused_with_what_would(
    hub: Hub, tmp_path: Path, changed: dict[str, object], wanted: Entry, sentence: str
) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    store = make(tmp_path)
    with store.use() as use, pytest.raises((Refused, NoRoom), match=sentence):
        store.ensure(wanted, policy(hub, **changed), use, caller(), lambda *_: False)
    assert listed(tmp_path) == [] if (tmp_path / "store").exists() else True
    assert hub.all_sent() == 0


def test_the_operator_s_own_entries_always_work(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/b/m.ckpt", b"PK\x03\x04" * 500)
    store = make(tmp_path)
    closed = policy(hub, allow=False, hosts=frozenset(), max_bytes=1)
    url = f"{hub.url}/a/b/resolve/main/m.ckpt"
    own = entry(url, name="m.ckpt", origin=Origin.OPERATOR)
    with store.use() as use:
        assert store.ensure(own, closed, use, caller(), lambda *_: False).how == "fetched"


def test_what_nobody_goes_on_with_makes_room(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/b/m.safetensors", SMALL)
    store = make(tmp_path, max_bytes=2 * MEGA)
    old = tmp_path / "store" / "partial" / "some-place" / "content" / "data"
    old.parent.mkdir(parents=True)
    old.write_bytes(SMALL + SMALL)
    with store.use() as use, pytest.raises(NoRoom):
        store.ensure(entry(), policy(hub), use, caller(), lambda *_: False)
    assert old.exists()
    for path in (old, *old.parents[:2]):
        os.utime(path, (0, 0))
    with store.use() as use:
        assert store.ensure(entry(), policy(hub), use, caller(), lambda *_: False).how == "fetched"
    assert not old.exists()
