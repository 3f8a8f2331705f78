"""Extra nodes for tests: slow, failing, lying and dying ones.

The file follows ComfyUI's conventions and runs in `local_comfyui` and in the real ComfyUI alike.
Every node runs anew in each prompt, never from the cache.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, ClassVar

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image, ImageOps
from server import PromptServer

_STEP_SECONDS = 0.05

Inputs = dict[str, dict[str, Any]]


class _Any(str):
    """The type of a value that fits everywhere: ComfyUI compares types by ``!=``."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __ne__(self, other: object) -> bool:
        return False


_ANY = _Any("*")


class _TestNode:
    """What the nodes here have in common."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ()
    FUNCTION = "run"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def IS_CHANGED(cls, **_inputs: Any) -> float:
        return float("nan")


def _seconds() -> tuple[str, dict[str, float]]:
    return ("FLOAT", {"default": 1.0, "min": 0.0, "max": 86400.0})


def _text(default: str = "") -> tuple[str, dict[str, Any]]:
    return ("STRING", {"default": default, "multiline": True})


def _sleep(seconds: float) -> None:
    """Sleep, report progress about every 50 ms, and obey interrupts."""
    steps = max(1, round(seconds / _STEP_SECONDS))
    progress = comfy.utils.ProgressBar(steps)
    for _ in range(steps):
        time.sleep(seconds / steps)
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)


class TestSleep(_TestNode):
    """Sleeps ``seconds`` and passes ``any`` through."""

    RETURN_TYPES = (_ANY,)
    OUTPUT_NODE = False

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"seconds": _seconds()}, "optional": {"any": (_ANY, {})}}

    def run(self, seconds: float, any: Any = None) -> tuple[Any]:  # noqa: A002 - the input's name
        _sleep(seconds)
        return (any,)


class TestSleepOutput(_TestNode):
    """Sleeps ``seconds``; an output node with a text."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"seconds": _seconds()}, "optional": {"any": (_ANY, {})}}

    def run(self, seconds: float, any: Any = None) -> dict[str, Any]:  # noqa: A002, ARG002 - as above
        _sleep(seconds)
        return {"ui": {"text": [f"slept {seconds} s"]}}


class TestHang(_TestNode):
    """Sleeps ``seconds`` and ignores interrupts; HTTP goes on answering."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"seconds": _seconds()}}

    def run(self, seconds: float) -> dict[str, Any]:
        time.sleep(seconds)
        return {"ui": {"text": [f"hung {seconds} s"]}}


class TestFail(_TestNode):
    """Raises ``RuntimeError(message)``."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"message": _text("the node failed on purpose")},
            "optional": {"any": (_ANY, {})},
        }

    def run(self, message: str, any: Any = None) -> None:  # noqa: A002, ARG002 - the input's name
        raise RuntimeError(message)


class TestEndExecutor(_TestNode):
    """Raises what ComfyUI's executor does not survive, ``times`` times at most."""

    ERRORS: ClassVar[dict[str, BaseException]] = {
        "SystemExit": SystemExit("the node wants to exit"),
        "KeyboardInterrupt": KeyboardInterrupt("the node was stopped"),
        "CancelledError": asyncio.CancelledError("the node was cancelled"),
        "surrogate": RuntimeError("half a character: \ud83d"),
    }

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"error": (list(cls.ERRORS),)}, "optional": _limited()}

    def run(self, error: str, times: int = 0, counter: str = "") -> dict[str, Any]:
        if _once_more(times, counter):
            raise self.ERRORS[error]
        return {"ui": {"text": ["alive"]}}


class TestBusy(_TestNode):
    """Works for about ``seconds`` in one call that never lets another thread run."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"seconds": _seconds()}}

    def run(self, seconds: float) -> dict[str, Any]:
        some = 10_000_000
        started = time.perf_counter()
        deque(itertools.repeat(None, some), maxlen=0)
        each = (time.perf_counter() - started) / some
        deque(itertools.repeat(None, int(seconds / each)), maxlen=0)
        return {"ui": {"text": ["done"]}}


class TestPreviews(_TestNode):
    """Shows ``count`` previews at once, which take ComfyUI's event loop about ``seconds``."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"count": ("INT", {"default": 200, "min": 1}), "seconds": _seconds()},
            "optional": {"then": (["end", "exit"],)},
        }

    def run(self, count: int, seconds: float, then: str = "end") -> dict[str, Any]:
        progress = comfy.utils.ProgressBar(count)
        image = Image.new("RGB", _side(seconds / count))
        for step in range(count):
            progress.update_absolute(step, count, ("JPEG", image, 512))
        if then == "exit":
            raise SystemExit("the node wants to exit")
        return {"ui": {"text": ["shown"]}}


def _side(seconds: float) -> tuple[int, int]:
    """How large a picture is that takes so long to be made a preview on this machine."""
    image = Image.new("RGB", (2048, 2048))
    started = time.perf_counter()
    ImageOps.contain(image, (512, 512), Image.Resampling.LANCZOS).save(io.BytesIO(), "JPEG")
    side = int(2048 * (seconds / (time.perf_counter() - started)) ** 0.5)
    return (max(512, side), max(512, side))


class TestPrint(_TestNode):
    """Prints ``text`` ``count`` times, without a flush, and then does ``then``."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"text": _text("printed"), "count": ("INT", {"default": 1, "min": 0})},
            "optional": {"then": (["end", "kill"],)},
        }

    def run(self, text: str, count: int, then: str = "end") -> dict[str, Any]:
        for _ in range(count):
            print(text)  # noqa: T201 - as nodes do
        if then == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"ui": {"text": ["printed"]}}


class TestDetach(_TestNode):
    """Starts a program in a session of its own, whose parent ends; reports its process id."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}}

    def run(self) -> dict[str, Any]:
        program = ["sh", "-c", "setsid sleep 600 > /dev/null 2>&1 & echo $!"]
        done = subprocess.run(program, capture_output=True, text=True, check=True)
        return {"ui": {"text": [done.stdout.strip()]}}


class TestTakeFiles(_TestNode):
    """Opens files until the system refuses, and keeps them open."""

    KEPT: ClassVar[list[Any]] = []

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}}

    def run(self) -> None:
        while True:
            self.KEPT.append(os.open(os.devnull, os.O_RDONLY))


class TestTellEnvironment(_TestNode):
    """Reports the environment variables ``names`` (with commas), as JSON."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"names": _text()}}

    def run(self, names: str) -> dict[str, Any]:
        found = {name: os.environ.get(name) for name in names.split(",")}
        return {"ui": {"text": [json.dumps(found)]}}


class TestOutOfMemory(_TestNode):
    """Raises torch's error for a GPU without memory left."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"message": _text("CUDA out of memory. Tried to allocate 20.00 GiB")}}

    def run(self, message: str) -> None:
        raise _out_of_memory_error()(message)


def _out_of_memory_error() -> type[Exception]:
    """Torch's own class where torch is, else one of the same qualified name."""
    try:
        import torch  # noqa: PLC0415 - only the real ComfyUI has it
    except ImportError:
        return type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})
    found: type[Exception] = torch.OutOfMemoryError
    return found


class TestExit(_TestNode):
    """Ends the server with ``os._exit(code)``, ``times`` times at most."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"code": ("INT", {"default": 1, "min": 0, "max": 255})},
            "optional": _limited(),
        }

    def run(self, code: int, times: int = 0, counter: str = "") -> dict[str, Any]:
        if _once_more(times, counter):
            os._exit(code)
        return {"ui": {"text": ["alive"]}}


class TestKill(_TestNode):
    """Kills the server with SIGKILL, ``times`` times at most."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}, "optional": _limited()}

    def run(self, times: int = 0, counter: str = "") -> dict[str, Any]:
        if _once_more(times, counter):
            os.kill(os.getpid(), signal.SIGKILL)
        return {"ui": {"text": ["alive"]}}


class TestFreeze(_TestNode):
    """Stops the server with SIGSTOP, ``times`` times at most: alive, but nothing answers."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}, "optional": _limited()}

    def run(self, times: int = 0, counter: str = "") -> dict[str, Any]:
        if _once_more(times, counter):
            os.kill(os.getpid(), signal.SIGSTOP)
        return {"ui": {"text": ["alive"]}}


def _limited() -> dict[str, Any]:
    """``times`` 0 means always; ``counter`` is the file that counts across restarts."""
    return {"times": ("INT", {"default": 0, "min": 0, "max": 1000}), "counter": _text()}


def _once_more(times: int, counter: str) -> bool:
    if times == 0:
        return True
    path = Path(counter)
    done = int(path.read_text()) if path.exists() else 0
    path.write_text(str(done + 1))
    return done < times


class TestOutput(_TestNode):
    """Returns any ``ui``, after writing ``files`` into the output folder.

    ``ui`` is JSON as Python reads it, so NaN and Infinity are possible; ``files`` is JSON too:
    ``{relative path: base64}``. ``any`` only makes this node wait for another one.
    """

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"ui": _text("{}"), "files": _text("{}")},
            "optional": {"any": (_ANY, {})},
        }

    def run(self, ui: str, files: str, any: Any = None) -> dict[str, Any]:  # noqa: A002, ARG002 - the input's name
        folder = Path(folder_paths.get_output_directory())
        for name, content in json.loads(files).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(content))
        return {"ui": json.loads(ui)}


class TestSaveItself(_TestNode):
    """Joins ``filename_prefix`` to the output folder by itself, and reports nothing."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"text": _text(), "filename_prefix": _text("ComfyUI")}}

    def run(self, text: str, filename_prefix: str) -> dict[str, Any]:
        folder = folder_paths.get_output_directory()
        Path(folder, f"{filename_prefix}_00001_.txt").write_text(text)
        return {}


class TestReadGraph(_TestNode):
    """Reports how many nodes the editor's workflow has."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}, "hidden": {"extra_pnginfo": "EXTRA_PNGINFO"}}

    def run(self, extra_pnginfo: dict[str, Any]) -> dict[str, Any]:
        return {"ui": {"text": [f"{len(extra_pnginfo['workflow']['nodes'])} nodes"]}}


class TestRaiseInterrupt(_TestNode):
    """Interrupts its own prompt, as a person at ComfyUI's page would."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}}

    def run(self) -> None:
        raise comfy.model_management.InterruptProcessingException


class TestNotJson(_TestNode):
    """Reports bytes, which no JSON can carry."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}}

    def run(self) -> dict[str, Any]:
        return {"ui": {"text": [b"\xff"]}}


class TestTellKey(_TestNode):
    """Prints the caller's API key and reports it as its text; raises it on demand."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"fail": ("BOOLEAN", {"default": False})},
            "hidden": {"key": "API_KEY_COMFY_ORG"},
        }

    def run(self, fail: bool, key: str = "") -> dict[str, Any]:
        sys.stdout.write(f"the key is {key}\n")
        if fail:
            raise RuntimeError(f"the key {key} is wrong")
        return {"ui": {"text": [f"the key is {key}"]}}


class TestBlock(_TestNode):
    """Blocks what comes after it, with a message."""

    RETURN_TYPES = ("IMAGE",)
    OUTPUT_NODE = False

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"message": _text("blocked on purpose")}}

    def run(self, message: str) -> tuple[Any]:
        return (ExecutionBlocker(message),)


class TestSaveCached:
    """Saves ``text`` under a fixed name, with no ``filename_prefix``, and may come from the cache.

    With ``counter``, a file outside, each run is counted there.
    """

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ()
    FUNCTION = "run"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"text": _text(), "name": _text("saved.txt"), "counter": _text()}}

    def run(self, text: str, name: str, counter: str) -> dict[str, Any]:
        if counter:
            _once_more(1, counter)
        (Path(folder_paths.get_output_directory()) / name).write_text(text)
        return {"ui": {"files": [{"filename": name, "subfolder": "", "type": "output"}]}}


class TestLoadScene:
    """Gives the first pixel of ``scene["image"]``, an input file; may come from the cache.

    Like core Load3D: its file stands in an object, and nothing tells ComfyUI when it changed.
    """

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("STRING",)
    FUNCTION = "run"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"scene": ("LOAD_3D", {})}}

    def run(self, scene: dict[str, str]) -> tuple[str]:
        with Image.open(Path(folder_paths.get_input_directory()) / scene["image"]) as image:
            return (str(image.convert("RGB").getpixel((0, 0))),)


class _Replacement:
    """Says that a class had another name, and what its inputs were called; ComfyUI's shape."""

    def __init__(self, old_name: str, new_name: str, **inputs: str) -> None:
        self.old_node_id, self.new_node_id = old_name, new_name
        self.old_widget_ids = list(inputs.values())
        named = [{"new_id": now, "old_id": before} for now, before in inputs.items()]
        self.input_mapping = named or None
        self.output_mapping = None

    def as_dict(self) -> dict[str, Any]:
        return vars(self)


# A ComfyUI that replaces no classes yet has none.
_manager = getattr(PromptServer.instance, "node_replace_manager", None)
if _manager is not None:
    _manager.register(_Replacement("TestSaveCachedOnce", "TestSaveCached"))
    _inputs = {"text": "content", "name": "file", "counter": "counter"}
    _manager.register(_Replacement("TestSaveCachedBefore", "TestSaveCached", **_inputs))
    _manager.register(_Replacement("TestLoadSceneOnce", "TestLoadScene"))

NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (
        TestSleep,
        TestSleepOutput,
        TestHang,
        TestFail,
        TestEndExecutor,
        TestBusy,
        TestPreviews,
        TestPrint,
        TestDetach,
        TestTakeFiles,
        TestTellEnvironment,
        TestOutOfMemory,
        TestExit,
        TestKill,
        TestFreeze,
        TestOutput,
        TestSaveItself,
        TestReadGraph,
        TestRaiseInterrupt,
        TestNotJson,
        TestTellKey,
        TestBlock,
        TestSaveCached,
        TestLoadScene,
    )
}
