"""The figures that docs/reliability.md and SECURITY.md give are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

import handler
from tests.worker_comfyui.reliability import test_anything, test_hostile, test_many_jobs
from worker_comfyui import errors, redaction
from worker_comfyui.comfyui import client
from worker_comfyui.comfyui.process import liveness, watch
from worker_comfyui.config import MEGA
from worker_comfyui.delivery import presigned, s3
from worker_comfyui.platform_side import progress, results, taking
from worker_comfyui.request import job_secrets
from worker_comfyui.workflows.editor import export
from worker_comfyui.workflows.embedded import texts

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = {3: "three", 6: "six", 8: "eight", 10: "ten", 12: "twelve"}

_first, _second, _third = s3.PAUSES_S
RELIABILITY = [
    f"says so after {watch.TELL_AFTER_S:g} s, with the address",
    f"for {NUMBERS[liveness.BUSY_FACTOR]} times `COMFY_HANG_TIMEOUT_S`",
    f"an error has at most {errors.MAX_RESULT_BYTES // 1000} kB",
    f"takes no answer of ComfyUI above {client.MAX_ANSWER_BYTES >> 20} MB",
    f"reads at most {texts.MAX_TEXT_BYTES >> 20} MB of text",
    f"becomes more than {export.MAX_BYTES >> 20} MB",
    f"takes at most {test_anything.MORE_BYTES // MEGA} MB more",
    f"| {test_hostile.NODES:,} nodes: ",
    f"as after {test_many_jobs.FIRST} jobs, memory within {test_many_jobs.GROWTH_MB:g} MB",
    f"posts it again for {NUMBERS[int(results.TRIES_S / 60)]} minutes",
    f"minutes, at most {results.LONGEST_PAUSE_S:g} s apart",
    f"waits for the update on its way, up to {progress.LAST_SEND_S:g} s",
    f"after 429 every {taking.TOO_MANY_PAUSE_S:g} s",
    f"retries first, after {_first:g}, {_second:g} and {_third:g} s",
    f"begins no attempt later than {s3.PATIENCE_S:g} s after the first",
    f"gives each file {s3.PATIENCE_S:g} s and a second for every {s3.SLOWEST // 1000} kB",
]
SECURITY = [
    f"known for {handler.SECRETS_LINGER_S:g} s after its end",
    f"an error has at most {errors.MAX_RESULT_BYTES // 1000} kB",
    f"in pieces of {NUMBERS[redaction.HEAD]} characters",
    f"fewer than {NUMBERS[redaction.MIN_LENGTH]} or more than {redaction.MAX_LENGTH:,} characters",
    f"of one job not more than {redaction.MAX_SECRETS}",
    f"found in its first {job_secrets.MAX_VALUES:,} texts",
    f"a text of up to {job_secrets.MAX_TEXT:,} characters",
    f"of {NUMBERS[redaction.MIN_ENCODED]} characters or more in base64 and hexadecimal",
]


@pytest.mark.parametrize(
    ("document", "claim"),
    [
        *[("docs/reliability.md", claim) for claim in RELIABILITY],
        *[("SECURITY.md", claim) for claim in SECURITY],
    ],
)
def test_a_figure_is_that_of_the_code(document: str, claim: str) -> None:
    assert claim in " ".join((ROOT / document).read_text().split())


def test_what_has_one_figure_in_the_documents_has_one_in_the_code() -> None:
    assert taking.REFUSED_PAUSE_S == 1
    assert (presigned.SLOWEST, presigned.PATIENCE_S) == (s3.SLOWEST, s3.PATIENCE_S)
