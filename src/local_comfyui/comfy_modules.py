"""The few names of ComfyUI's own modules that node files import, for extra nodes to run here.

``comfy.utils.ProgressBar``, ``comfy.model_management`` (interrupts), ``folder_paths``,
``comfy_execution.graph.ExecutionBlocker`` and ``server.PromptServer``, where node files say which
of their classes had other names. Nothing of it needs torch; what is not here, is missing
with Python's ordinary ImportError or AttributeError.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

from local_comfyui.folders import Folders
from local_comfyui.node_call import ExecutionBlocker
from local_comfyui.progress import Interrupt, InterruptProcessingException, Report
from local_comfyui.prompt import Replacements
from local_comfyui.save_path import save_path
from local_comfyui.websocket import Preview


def install(
    folders: Folders, interrupt: Interrupt, report: Report, replacements: Replacements
) -> None:
    """Register the stand-ins in ``sys.modules``; node files add to the ``replacements``."""

    def get_save_image_path(
        filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
    ) -> tuple[str, str, int, str, str]:
        kind = "temp" if output_dir == str(folders.temp) else "output"
        path = save_path(folders, kind, filename_prefix, (image_width, image_height))
        return str(path.folder), path.stem, path.counter, path.subfolder, filename_prefix

    _module("comfy")
    ProgressBar.report = staticmethod(report)
    _module("comfy.utils", ProgressBar=ProgressBar)
    _module(
        "comfy.model_management",
        InterruptProcessingException=InterruptProcessingException,
        throw_exception_if_processing_interrupted=interrupt.obey,
        processing_interrupted=interrupt.is_set,
    )
    _module("comfy_execution")
    _module("comfy_execution.graph", ExecutionBlocker=ExecutionBlocker)
    _module("comfy_execution.graph_utils", ExecutionBlocker=ExecutionBlocker)
    _module(
        "folder_paths",
        models_dir=str(folders.models),
        get_input_directory=lambda: str(folders.input),
        get_output_directory=lambda: str(folders.output),
        get_temp_directory=lambda: str(folders.temp),
        get_user_directory=lambda: str(folders.user),
        get_annotated_filepath=lambda name: str(folders.annotated_path(name)),
        get_filename_list=folders.model_files,
        get_folder_paths=lambda kind: [str(folder) for folder in folders.model_folders(kind)],
        get_save_image_path=get_save_image_path,
    )

    def register(node_replace: Any) -> None:
        replacements.setdefault(node_replace.old_node_id, []).append(node_replace.as_dict())

    instance = SimpleNamespace(node_replace_manager=SimpleNamespace(register=register))
    _module("server", PromptServer=SimpleNamespace(instance=instance))


def _module(name: str, **attributes: Any) -> None:
    module = ModuleType(name, "A stand-in by local_comfyui for the part that node files use.")
    vars(module).update(attributes)
    sys.modules[name] = module
    package, _, inner = name.rpartition(".")
    if package:
        setattr(sys.modules[package], inner, module)


class ProgressBar:
    """Reports a node's progress, and stops the node when it is interrupted."""

    report: ClassVar[Report]

    def __init__(self, total: float, node_id: str | None = None) -> None:
        del node_id  # ComfyUI's parameter; one node runs at a time, so it is known here
        self.total = total
        self.current: float = 0

    def update_absolute(
        self, value: float, total: float | None = None, preview: Preview | None = None
    ) -> None:
        """Report a value, and optionally a new total and a preview image."""
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        type(self).report(self.current, self.total, preview)

    def update(self, value: float) -> None:
        """Report so many steps more."""
        self.update_absolute(self.current + value)
