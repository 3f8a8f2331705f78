"""The documentation names only what exists, and its samples are valid."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from tests.support.described import check, check_job
from worker_comfyui.config import Settings
from worker_comfyui.errors import public_errors

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/*.md")])

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SCRIPT = re.compile(r"(?:\./)?scripts/([a-z][a-z-]*(?:\.sh|\.py)?)")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")

every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def _anchor(heading: str) -> str:
    """Make a heading's anchor as GitHub does."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def _anchors(document: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    return {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@every_document
def test_every_relative_link_leads_to_a_file_and_heading(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in _anchors(target), f"{link}: no such heading"


@every_document
def test_every_script_that_is_named_exists(document: Path) -> None:
    for name in SCRIPT.findall(document.read_text()):
        assert (ROOT / "scripts" / name).exists(), f"scripts/{name}"


@every_document
def test_every_test_that_is_named_exists(document: Path) -> None:
    for name in re.findall(r"\b(?:\w+/)*test_\w+\.py\b", document.read_text()):
        assert any(str(p).endswith(f"/{name}") for p in (ROOT / "tests").rglob("test_*.py")), name


SAMPLES = [
    pytest.param(body, id=f"{document.relative_to(ROOT)}-{number}")
    for document in DOCUMENTS
    for number, (language, body) in enumerate(BLOCK.findall(document.read_text()), 1)
    if language == "json"
]
SCHEMA_OF = {
    "percent": "Progress",
    "message": "ResultDetail",
    "input": "Request",
    "workers": "Health",
    "title": "Problem",
    "timings": "Result",
}
"""What a sample is, by the first of these fields that it has."""
OF_AWS = {"Version", "Statement"}


@pytest.mark.parametrize("text", SAMPLES)
def test_every_json_sample_is_as_the_description_says(text: str) -> None:
    sample = json.loads(text)
    if sample.keys() == OF_AWS:  # a policy of a bucket
        return
    if {"id", "status"} <= sample.keys():
        check_job(sample)
        return
    if sample.keys() == {"overrides"}:  # a part of a request
        sample = {"input": {"workflow": "portrait", **sample}}
    check(next(schema for field, schema in SCHEMA_OF.items() if field in sample), sample)


def test_samples_are_found() -> None:
    assert len(SAMPLES) >= 20


def _known_names() -> set[str]:
    """List the names that mean something: settings, error codes, states, build arguments."""
    names = {setting.metadata["name"] for setting in fields(Settings)}
    names |= {error.code for error in public_errors()}
    names |= {"IN_QUEUE", "IN_PROGRESS", "TIMED_OUT"}
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for name in tracked:
        path = ROOT / name
        is_document = path.suffix == ".md" or name.startswith("tests/")
        if is_document or not path.is_file() or path.suffix in {".png", ".lock"}:
            continue
        names |= set(VARIABLE.findall(path.read_text(errors="replace")))
    return names


def test_every_variable_and_code_that_is_named_exists() -> None:
    known = _known_names()
    unknown = {
        f"{document.relative_to(ROOT)}: {name}"
        for document in DOCUMENTS
        for name in VARIABLE.findall(document.read_text())
        if name not in known and name not in OF_OTHERS
    }
    assert not unknown


OF_OTHERS = {
    "RUNPOD_INIT_TIMEOUT",  # read by the platform
    "RUNPOD_API_KEY",
    "HF_HOME",  # read by custom nodes
    "OPENAI_API_KEY",
    "ENDPOINT_ID",  # a placeholder in samples
}


def test_the_error_table_in_the_documentation_is_the_one_in_the_code() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+) \|$", text, re.MULTILINE))
    expected = {
        error.code: f"{error.__doc__} | {error.hint} | {'yes' if error.retryable else 'no'}"
        for error in public_errors()
    }
    assert rows == expected
