from __future__ import annotations

import copy
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_comfyui.comfyui.workflow_changes import with_output_folder


def prefixed(prefix: Any) -> Any:
    workflow = {"9": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix, "n": 1}}}
    before = copy.deepcopy(workflow)
    changed = with_output_folder(workflow, "job-1")
    assert workflow == before
    assert changed["9"]["class_type"] == "SaveImage"
    assert changed["9"]["inputs"]["n"] == 1
    return changed["9"]["inputs"]["filename_prefix"]


@pytest.mark.parametrize(
    ("prefix", "changed"),
    [
        ("out", "job-1/out"),
        ("folder/out", "job-1/folder/out"),
        ("folder/", "job-1/folder/"),
        ("%date:yyyy-MM-dd%/x", "job-1/%date:yyyy-MM-dd%/x"),
        ("..out", "job-1/..out"),
        ("", "job-1/ComfyUI"),
        (".", "job-1/ComfyUI"),
        ("./", "job-1/ComfyUI"),
    ],
)
def test_a_prefix_is_moved_into_the_job_s_folder(prefix: str, changed: str) -> None:
    assert prefixed(prefix) == changed


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "a\\..\\x", "/etc/x", "\\x", ".."])
def test_a_prefix_that_leaves_the_folder_is_left_for_comfyui_to_refuse(prefix: str) -> None:
    assert prefixed(prefix) == prefix


@pytest.mark.parametrize("prefix", [["4", 0], 5, None, True, {}])
def test_a_prefix_that_is_no_text_stays(prefix: Any) -> None:
    assert prefixed(prefix) == prefix


def test_other_nodes_stay_the_same_objects() -> None:
    workflow = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}
    assert with_output_folder(workflow, "job-1")["1"] is workflow["1"]


@given(st.text(st.sampled_from("a./\\ %"), max_size=12))
def test_no_changed_prefix_names_a_file_outside_the_job_s_folder(prefix: str) -> None:
    changed = prefixed(prefix)
    if changed == prefix:
        return
    path = PurePosixPath(changed)
    assert path.parts[0] == "job-1"
    assert len(path.parts) > 1
    assert ".." not in path.parts
