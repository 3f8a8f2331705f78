"""Takes prompts from the queue and runs one after the other: order, cache, events, errors.

The behaviour is that of ComfyUI 0.3.64 ``execution.py`` and ``main.py``.
"""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from local_comfyui.cache import Cache, CacheEntry, cache_keys
from local_comfyui.graph import run_order, upstream
from local_comfyui.node_call import Values, call, calls, collect
from local_comfyui.progress import Interrupt, InterruptProcessingException, Progress
from local_comfyui.prompt import (
    Json,
    NodeClass,
    NodeClasses,
    QueueItem,
    full_type_name,
    is_output_node,
)
from local_comfyui.prompt_queue import PromptQueue
from local_comfyui.websocket import Preview, WebSockets

_log = logging.getLogger(__name__)

_OUT_OF_MEMORY = ("torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError")
_OUT_OF_MEMORY_TIP = (
    "This error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before "
    "you might have accidentally set the batch_size to a large number."
)


@dataclass
class Executor:
    """Executes prompts; holds between them what is kept: cached results and nodes' objects."""

    classes: NodeClasses
    cache: Cache
    sockets: WebSockets
    interrupt: Interrupt
    instances: dict[tuple[str, str], Any] = field(default_factory=dict)
    _run: _PromptRun | None = None

    def running_node(self, client_id: str) -> str | None:
        """The node that runs now, if the running prompt is this client's."""
        run = self._run
        return run.node_id if run and run.item.client_id == client_id else None

    def report(self, value: float, maximum: float, preview: Preview | None) -> None:
        """Report a step of the running node: how many of how many, with a preview image."""
        if self._run is not None:
            self._run.progress.update(value, maximum, preview)

    def work(self, queue: PromptQueue) -> None:
        """Execute what comes into the queue, for ever: the work of a thread of its own."""
        while True:
            item = queue.get()
            _log.info("got prompt")
            started = time.perf_counter()
            self.interrupt.clear()
            self._run = _PromptRun(item, self)
            # A node's object lives as long as each prompt has that node.
            wanted = {(node_id, node.get("class_type")) for node_id, node in item.prompt.items()}
            self.instances = {key: self.instances[key] for key in wanted & {*self.instances}}
            queue.done(item, self._run.execute())  # the last frame comes after the entry
            self._run = None
            if item.client_id is not None:
                end = {"node": None, "prompt_id": item.prompt_id}
                self.sockets.send("executing", end, item.client_id)
            _log.info("Prompt executed in %.2f seconds", time.perf_counter() - started)


class _PromptRun:
    """The execution of one prompt."""

    def __init__(self, item: QueueItem, executor: Executor) -> None:
        self.item = item
        sockets, interrupt = executor.sockets, executor.interrupt
        self.progress = Progress(item.prompt_id, item.client_id, sockets, interrupt)
        self.node_id: str | None = None
        """The node that runs now, or ran last."""
        self._executor = executor
        self._classes = executor.classes
        self._cache = executor.cache
        self._keys: dict[str, str] = {}
        self._inputs: Values = {}
        self._executed: list[str] = []
        self._messages: list[tuple[str, Json]] = []

    def execute(self) -> Json:
        """Run the prompt to its end, whatever that is.

        Returns:
            The history entry's ``outputs``, ``status`` and ``meta``.
        """
        self._message("execution_start")
        try:
            self._run_nodes()
        except InterruptProcessingException:
            _log.info("Processing interrupted")
            self._message("execution_interrupted", broadcast=True, **self._place())
        except Exception as error:  # noqa: BLE001 - a node may raise anything; the client is told
            # Outside of a node, as with a malformed one, such an error ends ComfyUI's thread, and
            # every later prompt waits for ever.
            _log.error("!!! Exception during processing !!! %s", error, exc_info=error)
            self._message("execution_error", **self._place(), **self._told(error))
        else:
            self._message("execution_success")
        entries = {node_id: self._cache.get(key) for node_id, key in self._keys.items()}
        shown = {node_id: entry.ui for node_id, entry in entries.items() if entry and entry.ui}
        success = self._messages[-1][0] == "execution_success"
        status: Json = {"status_str": "success" if success else "error", "completed": success}
        status["messages"] = [list(message) for message in self._messages]
        ids = ("node_id", "display_node", "real_node_id")  # differ only in subgraphs
        meta = {node_id: dict.fromkeys(ids, node_id) | {"parent_node": None} for node_id in shown}
        return {"outputs": shown, "status": status, "meta": meta}

    def _run_nodes(self) -> None:
        prompt = self.item.prompt
        graph = upstream(prompt, self.item.outputs, lambda _node_id: False)
        order = TopologicalSorter(graph).static_order()
        self._keys = cache_keys(prompt, order, self._classes, self._is_changed)
        self._cache.begin_prompt(set(self._keys.values()))

        def is_cached(node_id: str) -> bool:
            return self._cache.get(self._keys[node_id]) is not None

        def is_output(node_id: str) -> bool:
            return is_output_node(self._classes[prompt[node_id]["class_type"]])

        self._message("execution_cached", nodes=list(filter(is_cached, self._keys)))
        needed = upstream(prompt, self.item.outputs, is_cached)
        for node_id in run_order(needed, is_output):
            entry = self._cache.get(self._keys[node_id])
            if entry is None:
                self._run_node(node_id, prompt[node_id]["class_type"])
            else:
                self._about_node("executed", node_id, output=entry.ui)  # null without any
            self.progress.finish(node_id)

    def _run_node(self, node_id: str, class_type: str) -> None:
        self.node_id, self._inputs = node_id, {}
        self.progress.start(node_id)
        self._about_node("executing", node_id)
        self._inputs = collect(node_id, self.item, self._classes[class_type], self._output)
        instances = self._executor.instances
        if (node_id, class_type) not in instances:
            instances[node_id, class_type] = self._classes[class_type]()
        instance, before = instances[node_id, class_type], self._executor.interrupt.obey
        outputs, ui = call(instance, self._inputs, before, self._report_block)
        if ui:
            self._about_node("executed", node_id, output=ui)
        self._cache.put(self._keys[node_id], CacheEntry(outputs, ui or None))
        self._executed.append(node_id)

    def _output(self, node_id: str, slot: int) -> list[Any] | None:
        """What a node gave; None before it has run."""
        entry = self._cache.get(self._keys.get(node_id, ""))
        return entry.outputs[slot] if entry else None

    def _is_changed(self, node_id: str, node_class: NodeClass) -> Any:
        function = getattr(node_class, "IS_CHANGED", None)
        if function is None:
            return False
        try:
            values = collect(node_id, self.item, node_class, lambda _node_id, _slot: None)
            return function(**calls(values, as_lists=False)[0])
        except Exception:  # noqa: BLE001 - as any node, and then it simply runs again
            _log.warning("WARNING: IS_CHANGED of node %s failed", node_id, exc_info=True)
            return float("nan")

    def _about_node(self, event: str, node_id: str, **data: Any) -> None:
        """Send an event about one node; a prompt without a client has none."""
        data = {"node": node_id, "display_node": node_id, **data, "prompt_id": self.item.prompt_id}
        if self.item.client_id is not None:
            self._executor.sockets.send(event, data, self.item.client_id)

    def _message(self, event: str, *, broadcast: bool = False, **data: Any) -> None:
        """Send an event of the whole prompt, and keep it for the history."""
        now = int(time.time() * 1000)
        stamped = {"prompt_id": self.item.prompt_id, **data, "timestamp": now}
        self._messages.append((event, stamped))
        if self.item.client_id is not None or broadcast:
            self._executor.sockets.send(event, stamped, self.item.client_id)

    def _place(self) -> Json:
        """Where an error or an interrupt happened."""
        node = self.item.prompt[self.node_id] if self.node_id is not None else {}
        names = {"node_id": self.node_id, "node_type": node.get("class_type")}
        return {**names, "executed": list(self._executed)}

    def _told(self, error: Exception) -> Json:
        """What the client is told about an error of a node."""
        kind = full_type_name(type(error))
        tip = _OUT_OF_MEMORY_TIP if kind in _OUT_OF_MEMORY else ""
        return {
            "exception_message": f"{error}\n{tip}",
            "exception_type": kind,
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {
                name: [_shown(value) for value in values] for name, values in self._inputs.items()
            },
            "current_outputs": list(self.item.prompt),
        }

    def _report_block(self, message: str) -> None:
        """Tell why a branch is blocked: an error frame that does not end the prompt."""
        data = {"prompt_id": self.item.prompt_id, **self._place()}
        data["exception_message"] = f"Execution Blocked: {message}"
        data["exception_type"] = "ExecutionBlocked"
        data |= {name: [] for name in ("traceback", "current_inputs", "current_outputs")}
        self._executor.sockets.send("execution_error", data, self.item.client_id)


def _shown(value: Any) -> Any:
    """An input's value as an error shows it; of an array only its shape."""
    if hasattr(value, "shape"):
        return f"array of shape {tuple(value.shape)}"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
