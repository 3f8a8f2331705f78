"""Compares the worker's download of one large file with public downloaders, from loopback.

A stand-in for the hub serves the file, in a process of its own, by `sendfile`. Each downloader runs
in turn, several times, in a process of its own. Compared is like with like: the transfer alone, and
with what the worker always does beside it, SHA-256 and fsync. Part of `./scripts/benchmark`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
KEY = "a/b/m.safetensors"

SERVE = """
import sys, threading
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tests.support.hub import Hub
with Hub(folder=Path(sys.argv[1])).running() as hub:
    print(hub.url, flush=True)
    print(hub.cdn_url, flush=True)
    hub.links["s"] = sys.maxsize
    sys.stdin.read()
"""
OWN = """
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from worker_comfyui.models.transfer.fetch import fetch
from worker_comfyui.models.transfer.terms import Caller, Means, Wanted
from worker_comfyui.models.transfer.rules import Rules
from worker_comfyui.models.transfer.sources import source
url, folder, checks = sys.argv[1:]
if checks == "no":  # what is left is the transfer alone, as the others make it
    from worker_comfyui.models.transfer import assembly, fetch as module, partial

    class Nothing:
        def update(self, _): ...
        def hexdigest(self): return ""

    assembly.hashlib = type("hashlib", (), {"sha256": Nothing})
    partial.zlib = type("zlib", (), {"crc32": staticmethod(lambda _: 0)})
    partial.Partial.sync = lambda _: None
    module._Transfer._check = lambda *_: None
means = Means(rules=Rules(hub=url, trusted=frozenset({"127.0.0.1"})))
wanted = Wanted(source=source("hf://a/b/m.safetensors", url), name="m.safetensors")
fetched = fetch(wanted, Path(folder), means, Caller(lambda: None, lambda _: None))
print(fetched.sha256)
"""
HF_TRANSFER = """
import sys, hf_transfer
hf_transfer.download(sys.argv[1], sys.argv[2], 8, 10485760)
"""
HF_HUB = """
import os, sys
os.environ |= {"HF_ENDPOINT": sys.argv[1], "HF_HUB_DISABLE_XET": "1"}
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
from huggingface_hub import hf_hub_download
hf_hub_download("a/b", "m.safetensors", local_dir=sys.argv[2])
"""
CHECK = """
import hashlib, os, sys
with open(sys.argv[1], "r+b") as file:
    hashlib.file_digest(file, "sha256")
    os.fsync(file.fileno())
"""
OWN_CHECKED = "worker"
OWN_ALONE = "worker, transfer alone"
ROUNDS = 5
Command = Callable[[Path], Sequence[str]]


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, str]]:
    """Run the stand-in hub; yield its address, and one of the file itself."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    ) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("no pipes")
        url = process.stdout.readline().strip()
        link = f"{process.stdout.readline().strip()}/{KEY}?X-Amz-Signature=s"
        try:
            yield url, link
        finally:
            process.stdin.close()


def make(path: Path, size: int) -> str:
    """Write a valid safetensors file of this size; return its SHA-256."""
    path.parent.mkdir(parents=True)
    header = b""
    while True:
        length = size - 8 - len(header)
        tensor = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
        new = json.dumps({"t": tensor}).encode()
        is_settled = len(new) == len(header)
        header = new
        if is_settled:
            break
    digest = hashlib.sha256()
    block = os.urandom(1 << 20)
    with path.open("wb") as file:

        def write(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        write(len(header).to_bytes(8, "little") + header)
        left = length
        while left:
            write(block[: min(left, len(block))])
            left -= min(left, len(block))
    return digest.hexdigest()


def measure(base: Path, gigabytes: float, peers: str | None) -> list[str]:
    """Run all in turn; return the table's lines.

    Args:
        base: A folder on the disk to write to.
        gigabytes: Of the file.
        peers: A Python that has hf_transfer and huggingface_hub; without it, and without aria2c,
            there is curl alone to compare with.
    """
    size = int(gigabytes * 1e9)
    make(base / "hub" / KEY, size)
    found: dict[str, list[Run]] = {}
    with serving(base / "hub") as (url, link):
        once(["curl", "-sfo", os.devnull, f"{url}/{KEY.replace('/m', '/resolve/main/m')}"], base)
        downloaders = {**own(url), **public(url, link, peers)}
        for _ in range(ROUNDS):
            for name, command in downloaders.items():
                for run in in_turn(name, command, base):
                    found.setdefault(run.name, []).append(run)
    shutil.rmtree(base)
    return table(found, size)


@dataclass(frozen=True)
class Run:
    """A download.

    Attributes:
        name: Which.
        seconds: How long it took.
        memory: The most that its process had, in bytes.
        is_checked: Whether the file was also hashed and reached the disk.
    """

    name: str
    seconds: float
    memory: int
    is_checked: bool = False


def own(url: str) -> dict[str, Command]:
    """The worker's, as it is and as a transfer alone."""
    return {
        f"{name}": lambda to, checks=checks: [  # type: ignore[misc]
            *(sys.executable, "-c", OWN, url, str(to / "staging"), checks),
        ]
        for name, checks in ((OWN_CHECKED, "yes"), (OWN_ALONE, "no"))
    }


def public(url: str, link: str, peers: str | None) -> dict[str, Command]:
    """Those that there are: each a command for a folder."""
    aria = ["-q", "-x8", "-s8", "-k8M", "--file-allocation=none"]
    found: dict[str, Command] = {
        "curl": lambda to: ["curl", "-sfo", str(to / "file"), link],
    }
    if aria2c := shutil.which("aria2c"):
        found["aria2c"] = lambda to: [aria2c, *aria, "-d", str(to), "-o", "file", link]
    if peers:
        found["hf_transfer"] = lambda to: [peers, "-c", HF_TRANSFER, link, str(to / "file")]
        found["huggingface_hub"] = lambda to: [peers, "-c", HF_HUB, url, str(to)]
    return found


def in_turn(name: str, command: Command, base: Path) -> list[Run]:
    """Run one; the public ones then once more checked."""
    with tempfile.TemporaryDirectory(dir=base) as folder:
        alone = once(command(Path(folder)), base)
        run = Run(name, *alone, is_checked=name == OWN_CHECKED)
        if name in {OWN_CHECKED, OWN_ALONE}:
            return [run]
        file = max(Path(folder).rglob("*"), key=lambda path: path.stat().st_size)
        seconds, _ = once([sys.executable, "-c", CHECK, str(file)], base)
    return [run, Run(f"{name} + check", alone[0] + seconds, alone[1], is_checked=True)]


def once(command: Sequence[str], base: Path) -> tuple[float, int]:
    """Run a program; return its seconds, and the most memory that it had, in bytes."""
    environment = {**os.environ, "HF_HOME": str(base / "hf-home")}
    if command[0] == sys.executable:
        environment["PYTHONPATH"] = f"{ROOT / 'src'}:{ROOT}"
    else:
        environment.pop("PYTHONPATH", None)
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[:3]} ended with {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss * 1024


def table(found: dict[str, list[Run]], size: int) -> list[str]:
    """Compare medians, and the worker with the best of the others."""
    rates = {name: size / 1e6 / median(r.seconds for r in runs) for name, runs in found.items()}
    lines = [f"{size / 1e9:g} GB from loopback, median of {ROUNDS}:"]
    for is_checked, own_name in ((False, OWN_ALONE), (True, OWN_CHECKED)):
        names = [name for name, runs in found.items() if runs[0].is_checked == is_checked]
        for name in sorted(names, key=lambda name: -rates[name]):
            memory = max(run.memory for run in found[name]) / 1e6
            lines.append(f"{name:<28} {rates[name]:6.0f} MB/s, {memory:4.0f} MB of memory")
        best = max((name for name in names if name != own_name), key=lambda name: rates[name])
        lines.append(f"  the worker has {rates[own_name] / rates[best]:.2f} of {best}")
    return lines
