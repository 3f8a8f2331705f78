"""Runs one prompt: order, cache, events, interrupts and errors.

The behaviour is that of ComfyUI 0.3.64 ``execution.py``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local_comfyui.cache import Cache, CacheEntry, cache_keys
from local_comfyui.execution_blocker import ExecutionBlocker, blocked
from local_comfyui.graph import needed_nodes, run_order
from local_comfyui.interrupt import Interrupt, InterruptProcessingException
from local_comfyui.node_inputs import Values, calls, collect
from local_comfyui.progress import EventSink, Progress
from local_comfyui.prompt import Json, NodeClass, NodeClasses, QueueItem, is_output_node
from local_comfyui.type_names import full_type_name

_log = logging.getLogger(__name__)

_OUT_OF_MEMORY = ("torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError")
_OUT_OF_MEMORY_TIP = (
    "This error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before "
    "you might have accidentally set the batch_size to a large number."
)


@dataclass
class Running:
    """What runs right now, for a client that connects in between."""

    client_id: str | None = None
    node_id: str | None = None
    progress: Progress | None = None


@dataclass
class _Run:
    """The state of one prompt's execution."""

    item: QueueItem
    keys: dict[str, str]
    progress: Progress
    entries: dict[str, CacheEntry] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Failure:
    node_id: str
    error: Exception
    inputs: Values


class Executor:
    """Executes prompts one after the other; holds the cache between them."""

    def __init__(
        self, classes: NodeClasses, cache: Cache, sink: EventSink, interrupt: Interrupt
    ) -> None:
        self.running = Running()
        self._classes = classes
        self._cache = cache
        self._sink = sink
        self._interrupt = interrupt
        self._instances: dict[tuple[str, str], Any] = {}
        self._messages: list[tuple[str, Json]] = []

    def free(self) -> None:
        """Drop all cached results and node instances."""
        self._cache.clear()
        self._instances.clear()

    def execute(self, item: QueueItem) -> Json:
        """Run a prompt to its end, whatever that is.

        Returns:
            The history entry's ``outputs``, ``status`` and ``meta``.
        """
        self._interrupt.clear()
        self._messages = []
        self.running.client_id = item.client_id
        self._message("execution_start", {}, item)
        run = self._begin(item)
        cached = [node_id for node_id in item.prompt if self._cache.get(run.keys[node_id])]
        self._message("execution_cached", {"nodes": cached}, item)
        failure = self._run_nodes(run)
        if failure is None:
            self._message("execution_success", {}, item)
        else:
            self._report(failure, run)
        self.running.node_id = None
        self.running.progress = None
        self._cache.end_prompt()
        return self._result(run, success=failure is None)

    def _begin(self, item: QueueItem) -> _Run:
        keys = cache_keys(
            item.prompt,
            self._classes,
            lambda node_id, node_class: self._is_changed(node_id, node_class, item),
        )
        self._cache.begin_prompt(keys)
        wanted = {(node_id, node["class_type"]) for node_id, node in item.prompt.items()}
        self._instances = {key: node for key, node in self._instances.items() if key in wanted}
        progress = Progress(item.prompt_id, item.client_id, self._sink, self._interrupt)
        self.running.progress = progress
        return _Run(item, keys, progress)

    def _run_nodes(self, run: _Run) -> _Failure | None:
        prompt = run.item.prompt

        def cached(node_id: str) -> bool:
            return self._cache.get(run.keys[node_id]) is not None

        def is_output(node_id: str) -> bool:
            return is_output_node(self._classes[prompt[node_id]["class_type"]])

        needed = needed_nodes(prompt, run.item.outputs, cached)
        for node_id in run_order(needed, is_output):
            failure = self._run_node(node_id, run)
            if failure is not None:
                return failure
        return None

    def _run_node(self, node_id: str, run: _Run) -> _Failure | None:
        item = run.item
        entry = self._cache.get(run.keys[node_id])
        if entry is not None:
            self._executed(node_id, entry.ui, item)
            run.progress.finish(node_id)
            return None
        node = item.prompt[node_id]
        node_class = self._classes[node["class_type"]]
        values: Values = {}
        try:
            run.progress.start(node_id)
            self._executing(node_id, item)
            values = collect(node_id, node, node_class, item, self._output_reader(run))
            outputs, ui = self._call(node_id, node, node_class, values, run)
        except InterruptProcessingException as error:
            _log.info("Processing interrupted")
            return _Failure(node_id, error, {})
        except Exception as error:  # noqa: BLE001 - a node may raise anything; the client is told
            _log.error("!!! Exception during processing !!! %s", error)
            _log.error("%s", "".join(traceback.format_exception(error)))
            return _Failure(node_id, error, values)
        meta = None
        if ui:
            meta = {
                "node_id": node_id,
                "display_node": node_id,
                "parent_node": None,
                "real_node_id": node_id,
            }
            self._executed(node_id, ui, item)
        self._cache.put(run.keys[node_id], CacheEntry(outputs, ui or None, meta))
        run.progress.finish(node_id)
        run.executed.append(node_id)
        return None

    def _call(
        self, node_id: str, node: Json, node_class: NodeClass, values: Values, run: _Run
    ) -> tuple[list[list[Any]], Json]:
        """Call a node's function for each element of its inputs, and merge what it returns."""
        key = (node_id, node["class_type"])
        instance = self._instances.get(key)
        if instance is None:
            instance = self._instances[key] = node_class()
        function = getattr(instance, node_class.FUNCTION)
        as_lists = getattr(node_class, "INPUT_IS_LIST", False)
        slots = len(node_class.RETURN_TYPES)
        returned: list[Any] = []
        for keywords in calls(values, as_lists=as_lists):
            self._interrupt.raise_if_requested()
            block = blocked(keywords, as_lists=as_lists)
            if block is not None:
                self._report_block(node_id, block, run)
                returned.append((ExecutionBlocker(None),) * slots)
                continue
            value = function(**keywords)
            returned.append(_awaited(value) if inspect.isawaitable(value) else value)
        return _merge(returned, node_class)

    def _output_reader(self, run: _Run) -> Callable[[str, int], list[Any] | None]:
        def output_of(node_id: str, slot: int) -> list[Any] | None:
            entry = self._cache.get(run.keys[node_id])
            return None if entry is None else entry.outputs[slot]

        return output_of

    def _is_changed(self, node_id: str, node_class: NodeClass, item: QueueItem) -> Any:
        function = getattr(node_class, "IS_CHANGED", None)
        if function is None:
            return False
        values = collect(
            node_id, item.prompt[node_id], node_class, item, lambda _node_id, _slot: None
        )
        try:
            return next(function(**keywords) for keywords in calls(values, as_lists=False))
        except Exception:  # noqa: BLE001 - as any node, and then it simply runs again
            _log.warning("WARNING: IS_CHANGED of node %s failed", node_id, exc_info=True)
            return float("nan")

    def _executing(self, node_id: str, item: QueueItem) -> None:
        if item.client_id is not None:
            self.running.node_id = node_id
            data = {"node": node_id, "display_node": node_id, "prompt_id": item.prompt_id}
            self._sink.send("executing", data, item.client_id)

    def _executed(self, node_id: str, ui: Json | None, item: QueueItem) -> None:
        if item.client_id is not None:
            data = {
                "node": node_id,
                "display_node": node_id,
                "output": ui,
                "prompt_id": item.prompt_id,
            }
            self._sink.send("executed", data, item.client_id)

    def _message(self, event: str, data: Json, item: QueueItem, *, broadcast: bool = False) -> None:
        """Send an event of the whole prompt, and keep it for the history."""
        stamped = {"prompt_id": item.prompt_id, **data, "timestamp": int(time.time() * 1000)}
        self._messages.append((event, stamped))
        if item.client_id is not None or broadcast:
            self._sink.send(event, stamped, item.client_id)

    def _report(self, failure: _Failure, run: _Run) -> None:
        data: Json = {
            "node_id": failure.node_id,
            "node_type": run.item.prompt[failure.node_id]["class_type"],
            "executed": list(run.executed),
        }
        if isinstance(failure.error, InterruptProcessingException):
            self._message("execution_interrupted", data, run.item, broadcast=True)
            return
        kind = full_type_name(type(failure.error))
        tip = _OUT_OF_MEMORY_TIP if kind in _OUT_OF_MEMORY else ""
        data |= {
            "exception_message": f"{failure.error}\n{tip}",
            "exception_type": kind,
            "traceback": traceback.format_tb(failure.error.__traceback__),
            "current_inputs": {
                name: [_shown(value) for value in elements]
                for name, elements in failure.inputs.items()
            },
            "current_outputs": list(run.item.prompt),
        }
        self._message("execution_error", data, run.item)

    def _report_block(self, node_id: str, block: ExecutionBlocker, run: _Run) -> None:
        """Tell why a branch is blocked: an error frame that does not end the prompt."""
        if block.message is None:
            return
        data = {
            "prompt_id": run.item.prompt_id,
            "node_id": node_id,
            "node_type": run.item.prompt[node_id]["class_type"],
            "executed": list(run.executed),
            "exception_message": f"Execution Blocked: {block.message}",
            "exception_type": "ExecutionBlocked",
            "traceback": [],
            "current_inputs": [],
            "current_outputs": [],
        }
        self._sink.send("execution_error", data, run.item.client_id)

    def _result(self, run: _Run, *, success: bool) -> Json:
        entries = {node_id: self._cache.get(run.keys[node_id]) for node_id in run.item.prompt}
        shown = {node_id: entry for node_id, entry in entries.items() if entry and entry.ui}
        return {
            "outputs": {node_id: entry.ui for node_id, entry in shown.items()},
            "status": {
                "status_str": "success" if success else "error",
                "completed": success,
                "messages": [list(message) for message in self._messages],
            },
            "meta": {node_id: entry.meta for node_id, entry in shown.items()},
        }


def _awaited(value: Any) -> Any:
    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


def _merge(returned: list[Any], node_class: NodeClass) -> tuple[list[list[Any]], Json]:
    """Join the results of a node's calls: values per output slot, and the lists of its ``ui``."""
    slots = len(node_class.RETURN_TYPES)
    is_list = getattr(node_class, "OUTPUT_IS_LIST", None) or [False] * slots
    outputs: list[list[Any]] = [[] for _ in range(slots)]
    ui: Json = {}
    for value in returned:
        result = value
        if isinstance(value, dict):
            for name, elements in value.get("ui", {}).items():
                ui.setdefault(name, []).extend(elements)
            result = value.get("result")
        if isinstance(result, ExecutionBlocker):
            result = (result,) * slots
        for slot, element in enumerate((result or ())[:slots]):
            if is_list[slot] and not isinstance(element, ExecutionBlocker):
                outputs[slot].extend(element)
            else:
                outputs[slot].append(element)
    return outputs, ui


def _shown(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
