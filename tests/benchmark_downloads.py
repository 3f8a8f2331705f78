"""Compares the worker's download of one large file with public downloaders, from loopback.

    PYTHONPATH=src:. .venv/bin/python -m tests.benchmark_downloads --gigabytes 2 \
        --hf-transfer /path/to/venv/bin/python --aria2c /path/to/aria2c

The stand-in hub serves the file in a process of its own. Each downloader runs in turn, `--rounds`
times, in a process of its own; the best round of each counts. Those that do not check a hash are
also shown with `sha256sum` after them: what the worker does while it downloads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEY = "a/b/m.safetensors"

SERVE = """
import sys, threading
from pathlib import Path
from tests.support.hub import Hub
with Hub(folder=Path(sys.argv[1])).running() as hub:
    print(hub.url, flush=True)
    print(hub.cdn_url, flush=True)
    hub.links["s"] = sys.maxsize
    sys.stdin.read()
"""
OWN = """
import sys
from pathlib import Path
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


def run(command: list[str]) -> tuple[float, float]:
    """Run a program; return its seconds and the most memory of all programs so far, in MB."""
    started = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hf-transfer", help="a Python that has hf_transfer")
    parser.add_argument("--aria2c", help="the program")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        size = int(chosen.gigabytes * 1e9)
        make(folder / "hub" / KEY, size)
        with serving(folder / "hub") as (url, link):
            run(["curl", "-s", "-o", "/dev/null", f"{url}/a/b/resolve/main/m.safetensors"])
            table(commands(chosen, url, link), chosen.rounds, size, folder)


def commands(
    chosen: argparse.Namespace, url: str, link: str
) -> dict[str, Callable[[Path], list[str]]]:
    """Name each downloader, and its command for a target."""
    aria = ["-q", "-x8", "-s8", "-k8M", "--file-allocation=none", "--allow-overwrite=true"]
    found: dict[str, Callable[[Path], list[str]]] = {
        "worker": lambda to: [sys.executable, "-c", OWN, url, str(to / "staging"), "yes"],
        "worker, unchecked": lambda to: [
            *(sys.executable, "-c", OWN, url, str(to / "staging"), "no"),
        ],
    }
    if chosen.hf_transfer:
        found["hf_transfer"] = lambda to: [
            *(chosen.hf_transfer, "-c", HF_TRANSFER, link, str(to / "file")),
        ]
    if chosen.aria2c:
        found["aria2c"] = lambda to: [
            *(chosen.aria2c, *aria, "-d", str(to), "-o", "file", link),
        ]
    return found


def table(
    found: dict[str, Callable[[Path], list[str]]], rounds: int, size: int, folder: Path
) -> None:
    """Run all in turn, and print the best of each."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, command in found.items():
            with tempfile.TemporaryDirectory(dir=folder) as to:
                seconds, _ = run(command(Path(to)))
                best[name] = min(best.get(name, 1e9), seconds)
                if not name.startswith("worker"):
                    check, _ = run(["sha256sum", str(Path(to) / "file")])
                    named = f"{name} + sha256sum"
                    best[named] = min(best.get(named, 1e9), seconds + check)
    for name, seconds in sorted(best.items(), key=lambda item: item[1]):
        sys.stdout.write(f"{name:<26}{seconds:7.2f} s {size / 1e6 / seconds:8.0f} MB/s\n")


if __name__ == "__main__":
    main()
