"""A real S3 server for tests: `rclone serve s3`, which checks signatures and buckets."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RCLONE = Path(sys.executable).with_name("rclone")
ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"

_START_SECONDS = 20
_ADDRESS_MARK = "Starting s3 server on [http://"


class NotReadyError(RuntimeError):
    """The server ended, or did not start in time; the message holds its log."""


@dataclass(frozen=True)
class S3Server:
    """A running server; each folder in `folder` is a bucket."""

    address: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its endpoint URL."""
        return f"http://{self.address}"

    def make_bucket(self, name: str) -> Path:
        """Make a bucket; return its folder."""
        path = self.folder / name
        path.mkdir()
        return path

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving_s3(folder: Path) -> Iterator[S3Server]:
    """Serve a folder of buckets on a free port of 127.0.0.1.

    Raises:
        NotReadyError: it does not start.
    """
    buckets = folder / "buckets"
    buckets.mkdir(parents=True)
    log_path = folder / "rclone.log"
    command = [str(RCLONE), "serve", "s3", str(buckets), "--addr", "127.0.0.1:0"]
    command += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", "/dev/null"]
    # Files that a test puts into a bucket's folder must be seen soon. With 0, rclone spins.
    command += ["--dir-cache-time", "10ms"]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield S3Server(_address(process, log_path), buckets, process)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log_path: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        _, mark, rest = log_path.read_text().partition(_ADDRESS_MARK)
        if mark and "/]" in rest:
            return rest.partition("/]")[0]
        time.sleep(0.02)
    raise NotReadyError(log_path.read_text())
