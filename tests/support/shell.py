"""Finds the commands of documents, and runs them as a person types them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

BASH = re.compile(r"^ *```bash\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
"""A block of commands in a document."""


def run(command: str, folder: Path, **variables: str) -> str:
    """Run a command with bash; returns what it printed, and fails with what it complained of."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1"} | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
