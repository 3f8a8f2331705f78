"""A caller watches a job: the preview and the finished files are in its status while it runs."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from tests.end_to_end.workflows import request
from tests.support.comfyui import FAULT_NODES, prepare_base
from tests.support.described import check
from tests.support.platform import running_platform
from tests.support.worker import worker_environment
from tests.support.workflows import empty_image, node

WORKFLOW = {
    "1": empty_image(0x204060),
    "2": node("SaveImage", images=["1", 0], filename_prefix="early"),
    "3": node("ProbeSleep", image=["1", 0], seconds=4.0, steps=40, preview=True),
    "4": node("SaveImage", images=["3", 0], filename_prefix="late"),
}


def comfyui_with_previews(folder: Path) -> Mapping[str, str]:
    base = folder / "base"
    prepare_base(base, (FAULT_NODES, FAULT_NODES.with_name("probe_nodes.py")))
    return worker_environment(base)


def test_a_preview_and_a_finished_file_are_seen_before_the_job_is_over() -> None:
    command = [sys.executable, "handler.py"]
    with running_platform(command, worker_env=comfyui_with_previews) as platform:
        job_id = platform.run(request(WORKFLOW, output={"live": True}))

        def shows_all(job: dict[str, Any]) -> bool:
            output = job.get("output", {})
            return "preview" in output and "files" in output

        running = platform.wait_for(job_id, shows_all)
        assert running["status"] == "IN_PROGRESS"
        progress = running["output"]
        check("Progress", progress)
        preview = progress["preview"]
        image = Image.open(io.BytesIO(base64.b64decode(preview["data"])))
        assert image.size == (preview["width"], preview["height"]) == (256, 256)
        assert (progress["node"], progress["files"]) == ("ProbeSleep", ["early_00001_.png"])

        done = platform.wait(job_id)
        assert done["status"] == "COMPLETED"
        assert "preview" not in done["output"]
        names = [image["filename"] for image in done["output"]["images"]]
        assert names == ["early_00001_.png", "late_00001_.png"]
