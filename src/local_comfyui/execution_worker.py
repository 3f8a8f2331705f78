"""The one thread that takes prompts from the queue and executes them."""

from __future__ import annotations

import logging
import threading
import time
import traceback

from local_comfyui.executor import Executor
from local_comfyui.progress import EventSink
from local_comfyui.prompt import Json, QueueItem
from local_comfyui.prompt_queue import PromptQueue
from local_comfyui.type_names import full_type_name

_log = logging.getLogger(__name__)


def start(queue: PromptQueue, executor: Executor, sink: EventSink) -> threading.Thread:
    """Start the thread. It is a daemon: a node that hangs does not keep the process alive."""
    thread = threading.Thread(
        target=_work, args=(queue, executor, sink), name="prompt-worker", daemon=True
    )
    thread.start()
    return thread


def _work(queue: PromptQueue, executor: Executor, sink: EventSink) -> None:
    while True:
        item = queue.get()
        if queue.take_free_request():
            executor.free()
        if item is None:
            continue
        _log.info("got prompt")
        started = time.perf_counter()
        try:
            result = executor.execute(item)
        except Exception as error:  # noqa: BLE001 - see below
            # In ComfyUI such an exception ends this thread, and every later prompt waits for ever.
            _log.exception("The prompt could not be executed")
            result = _not_executed(item, error)
        queue.done(item, result)
        if item.client_id is not None:
            data = {"node": None, "prompt_id": item.prompt_id}
            sink.send("executing", data, item.client_id)
        _log.info("Prompt executed in %.2f seconds", time.perf_counter() - started)


def _not_executed(item: QueueItem, error: Exception) -> Json:
    """The history of a prompt that failed outside of its nodes, such as by a malformed one."""
    now = int(time.time() * 1000)
    failure: Json = {
        "prompt_id": item.prompt_id,
        "node_id": None,
        "node_type": None,
        "executed": [],
        "exception_message": f"{error}\n",
        "exception_type": full_type_name(type(error)),
        "traceback": traceback.format_tb(error.__traceback__),
        "current_inputs": {},
        "current_outputs": [],
        "timestamp": now,
    }
    start = {"prompt_id": item.prompt_id, "timestamp": now}
    status = {
        "status_str": "error",
        "completed": False,
        "messages": [["execution_start", start], ["execution_error", failure]],
    }
    return {"outputs": {}, "status": status, "meta": {}}
