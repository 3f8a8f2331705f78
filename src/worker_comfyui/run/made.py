"""What an attempt left → what is delivered, or the error with which the job ends."""

from __future__ import annotations

from collections.abc import Iterator

from worker_comfyui.comfyui import ending
from worker_comfyui.comfyui.node_problems import node_problems
from worker_comfyui.delivery.result import Made
from worker_comfyui.errors import ExecutionInterrupted, OutputMissing, sentence
from worker_comfyui.run.attempt import Attempted


def made(attempted: Attempted) -> Made:
    """Judge an attempt. An error of the workflow counts only where no node reported a file.

    Raises:
        JobError: it failed.
    """
    failure = ending.failure(attempted.executed.entry)
    found = attempted.taken
    # What nobody reported may be what the failed node had begun to write.
    has_results = any(file.node_id is not None for file in found.files)
    if failure and (isinstance(failure, ExecutionInterrupted) or not has_results):
        raise failure
    problems = [*attempted.reported.problems, *found.problems()]
    if problems and not found.files and not attempted.reported.texts:
        raise OutputMissing(sentence(problems[0]), problems)
    warnings = [str(failure)] if failure else []
    warnings += _warnings(attempted)
    warnings += map(sentence, problems)
    return Made([*found.files, *found.previews], list(attempted.reported.texts), warnings)


def _warnings(attempted: Attempted) -> Iterator[str]:
    for problem in node_problems(attempted.executed.node_errors, attempted.lookup):
        yield f"left out, since it is not valid: {sentence(problem)}"
    for branch in attempted.executed.blocked:
        yield f"node {branch.node_id} ({branch.class_type}) blocked its branch: {branch.message}"
    shown = attempted.reported.temporary
    if shown and not attempted.taken.files and not attempted.taken.previews:
        nodes = ", ".join(dict.fromkeys(str(file.node_id) for file in shown))
        yield (
            f"the workflow only previews (node {nodes}), and previews are not returned; "
            "ask for `output.previews`, or use SaveImage or another node that saves its output"
        )
    if attempted.executed.was_cut and attempted.is_silent():
        yield (
            "the connection to ComfyUI was lost for a moment: images that a node sends over the "
            "websocket may be missing"
        )
