"""What the tests leave in the temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_tests_that_pass_leave_no_file(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    test = tmp_path / "test_one.py"
    test.write_text("def test_one(tmp_path):\n    (tmp_path / 'file').write_text('x')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml")]
    subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(test)],
        env=os.environ | {"TMPDIR": str(scratch)},
        capture_output=True,
        check=True,
    )
    assert not [path for path in scratch.rglob("*") if path.is_file()]
