"""Clients that public generators make of docs/openapi.json compile, and run a job."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.platform import ROOT, RunningPlatform, running_platform

DESCRIPTION = ROOT / "docs" / "openapi.json"
CLIENTS = ROOT / "tests" / "clients"
MADE = "COMPLETED made_00001_.png\n"


@pytest.fixture(scope="module")
def platform() -> Iterator[RunningPlatform]:
    with running_platform([sys.executable, "handler.py"]) as running:
        yield running


def run(*command: object, folder: Path, seconds: float = 300) -> str:
    """Run a program in a folder; gives what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PYTHON_JOB = """
import sys
import time

from made import Client
from made.api.default import runsync
from made.models import Request

request = Request.from_dict(
    {
        "input": {
            "workflow": {
                "1": {
                    "class_type": "EmptyImage",
                    "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
                },
                "2": {
                    "class_type": "SaveImage",
                    "inputs": {"images": ["1", 0], "filename_prefix": "made"},
                },
            }
        }
    }
)
client = Client(base_url=sys.argv[1], timeout=60, raise_on_unexpected_status=True)
job = runsync.sync(client=client, body=request)
print(job.status.value, job.output.images[0].filename)
"""


@pytest.mark.timeout(400)  # installs packages, once
def test_a_generated_python_client_runs_a_job(platform: RunningPlatform, tmp_path: Path) -> None:
    programs = installed("python", "requirements.txt", install_python) / "bin"
    options = ["--path", DESCRIPTION, "--meta", "none", "--output-path", "made"]
    printed = run(programs / "openapi-python-client", "generate", *options, folder=tmp_path)
    assert "missing" not in printed, printed
    (tmp_path / "job.py").write_text(PYTHON_JOB)
    assert run(programs / "python", "job.py", platform.url, folder=tmp_path) == MADE


@pytest.mark.timeout(400)  # installs packages, once
@pytest.mark.skipif(shutil.which("npm") is None, reason="Node.js with npm is not installed")
def test_a_generated_typescript_client_runs_a_job(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    packages = installed("typescript", "package-lock.json", install_typescript) / "node_modules"
    for name in ("package.json", "tsconfig.json", "job.ts"):
        shutil.copy(CLIENTS / "typescript" / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(packages)
    generator = packages / ".bin" / "openapi-typescript"
    run(generator, DESCRIPTION, "-o", "schema.d.ts", folder=tmp_path)
    run(packages / ".bin" / "tsc", "-p", ".", folder=tmp_path)
    assert run("node", "built/job.js", platform.url, folder=tmp_path) == MADE


def installed(language: str, lock: str, install: Callable[[Path], None]) -> Path:
    """The folder with a language's locked packages, which are installed once."""
    content = (CLIENTS / language / lock).read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    folder = ROOT / ".venv" / f"client-{language}-{digest}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        install(folder)
        (folder / "done").touch()
    return folder


def install_python(folder: Path) -> None:
    """Make a virtual environment of its own: the generator wants other versions than the worker."""
    run(sys.executable, "-m", "venv", folder, folder=ROOT)
    lock = CLIENTS / "python" / "requirements.txt"
    options = ["--quiet", "--no-deps", "--require-hashes", "-r", lock]
    run(folder / "bin" / "python", "-m", "pip", "install", *options, folder=ROOT)


def install_typescript(folder: Path) -> None:
    """Install the npm packages."""
    shutil.copytree(CLIENTS / "typescript", folder)
    run("npm", "ci", "--silent", "--no-fund", "--no-audit", folder=folder)
