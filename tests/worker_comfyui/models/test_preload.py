from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.support.hub import safetensors
from worker_comfyui.models import memory
from worker_comfyui.models.preload import RESERVE_BYTES, Preload, find, fitting

GB = 1 << 30
PLENTY = 64 * GB


def make(folder: Path, **sizes: int) -> dict[str, Path]:
    """Make files, by name and size."""
    made = {}
    for name, size in sizes.items():
        made[name] = folder / f"{name}.safetensors"
        made[name].parent.mkdir(parents=True, exist_ok=True)
        made[name].write_bytes(safetensors(size))
    return made


def test_every_byte_is_read(tmp_path: Path) -> None:
    files = make(tmp_path, a=40_000_000, b=100)
    preload = Preload(files.values, lambda: PLENTY)
    preload.start()
    assert preload.join(30)
    assert preload.read_bytes == 40_000_100


def test_what_was_read_is_in_the_page_cache(tmp_path: Path) -> None:
    path = make(tmp_path, a=32_000_000)["a"]
    subprocess.run(["sync", str(path)], check=True)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = in_cache(path)
    if before > 0.5:
        pytest.skip("this file system keeps its pages")
    preload = Preload(lambda: [path], lambda: PLENTY)
    preload.start()
    preload.join(30)
    assert in_cache(path) > 0.9


def in_cache(path: Path) -> float:
    """Tell how much of a file is in the page cache, by what fincore (util-linux) says."""
    told = subprocess.run(
        ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        pytest.skip("fincore is not installed")
    return int(told.stdout) / path.stat().st_size


def test_only_what_fits_into_memory_is_read(tmp_path: Path) -> None:
    files = make(tmp_path, a=2000, b=5000, c=1000)
    (tmp_path / "link").symlink_to(files["a"])
    chosen = fitting([*files.values(), tmp_path / "link", tmp_path / "gone"], 3500)
    assert [(path.stem, size) for path, size in chosen] == [("a", 2000), ("c", 1000)]


@pytest.mark.parametrize("free", [0, RESERVE_BYTES - 1, RESERVE_BYTES + 10])
def test_where_memory_is_short_it_is_off_by_itself(tmp_path: Path, free: int) -> None:
    preload = Preload(make(tmp_path, a=1000).values, lambda: free)
    preload.start()
    assert preload.join(10)
    assert preload.read_bytes == 0


def test_it_ends_when_memory_becomes_short(tmp_path: Path) -> None:
    answers = [PLENTY, PLENTY, 0]

    def free() -> int:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    preload = Preload(make(tmp_path, a=200_000_000).values, free)
    preload.start()
    assert preload.join(30)
    assert 0 < preload.read_bytes <= 16 << 20


def test_it_is_stopped_at_once_and_leaves_no_thread(tmp_path: Path) -> None:
    files = make(tmp_path, a=1000)
    waiting = threading.Event()

    def slow() -> list[Path]:
        waiting.set()
        time.sleep(0.3)
        return list(files.values())

    preload = Preload(slow, lambda: PLENTY)
    preload.start()
    waiting.wait(5)
    preload.stop()
    assert preload.read_bytes == 0
    assert not [t for t in threading.enumerate() if t.name == "preload"]


def test_names_are_found_with_and_without_their_folder(tmp_path: Path) -> None:
    own, volume = tmp_path / "own", tmp_path / "volume"
    make(own / "vae", v=100)
    make(volume / "loras" / "sub", x=100)
    make(volume / "vae", v=100)
    wanted = ["vae/v.safetensors", "sub/x.safetensors", "v.safetensors", "gone.sft", "[a]*.sft"]
    assert list(find(wanted, [own, volume])) == [
        own / "vae/v.safetensors",
        volume / "loras/sub/x.safetensors",
        own / "vae/v.safetensors",
    ]


def test_free_memory_is_the_smallest_of_machine_and_container(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (cgroup / "memory").mkdir(parents=True)
    proc.mkdir()
    assert memory.free_bytes(proc, cgroup) == memory.NO_LIMIT
    (proc / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:    50 kB\n")
    assert memory.free_bytes(proc, cgroup) == 50 * 1024
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("40000\n")
    assert memory.free_bytes(proc, cgroup) == 50 * 1024
    (cgroup / "memory.max").write_text("50000\n")
    (cgroup / "memory.stat").write_text("anon 5\ninactive_file 7000\n")
    assert memory.free_bytes(proc, cgroup) == 17_000
    (cgroup / "memory" / "memory.limit_in_bytes").write_text("20000\n")
    (cgroup / "memory" / "memory.usage_in_bytes").write_text("15000\n")
    assert memory.free_bytes(proc, cgroup) == 5000


def test_free_memory_of_this_machine_is_a_number() -> None:
    assert 0 <= memory.free_bytes() < memory.NO_LIMIT
