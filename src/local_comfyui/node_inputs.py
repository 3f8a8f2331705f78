"""What a node's function is called with: constants, values of other nodes, hidden inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_comfyui.prompt import Json, NodeClass, QueueItem, is_link

Values = dict[str, list[Any]]
"""Each input with the list of its values; longer than one when a list node stands before it."""


def input_sections(node_class: NodeClass) -> Json:
    """A node class's declared inputs: ``required``, ``optional`` and ``hidden``."""
    sections: Json = node_class.INPUT_TYPES()
    return sections


def collect(
    node_id: str,
    node: Json,
    node_class: NodeClass,
    item: QueueItem,
    output_of: Callable[[str, int], list[Any] | None],
) -> Values:
    """Gather a node's inputs; an input whose source has no value yet is ``[None]``."""
    sections = input_sections(node_class)
    declared = {**sections.get("required", {}), **sections.get("optional", {})}
    values: Values = {}
    for name, value in node["inputs"].items():
        if is_link(value) and not _is_raw(declared.get(name)):
            found = output_of(value[0], int(value[1]))
            values[name] = [None] if found is None else found
        elif name in declared:
            values[name] = [value]
    for name, kind in hidden_inputs(node_class).items():
        values[name] = [_hidden(kind, node_id, item)]
    return values


def hidden_inputs(node_class: NodeClass) -> dict[str, str]:
    """Hidden inputs with their kinds; classes of the newer style wrap the kind into a list."""
    hidden = input_sections(node_class).get("hidden", {})
    return {name: kind[0] if isinstance(kind, list) else kind for name, kind in hidden.items()}


def calls(values: Values, *, as_lists: bool) -> list[dict[str, Any]]:
    """The keyword arguments of each call: a node is called once per element of its longest input.

    Args:
        values: From `collect`.
        as_lists: The node takes whole lists (``INPUT_IS_LIST``), so there is one call.
    """
    if as_lists:
        return [dict(values)]
    count = max((len(elements) for elements in values.values()), default=1)
    if count == 0 or any(not elements for elements in values.values()):
        return []
    return [
        {name: elements[min(index, len(elements) - 1)] for name, elements in values.items()}
        for index in range(count)
    ]


def _is_raw(declaration: Any) -> bool:
    """Whether an input wants the link itself instead of the value behind it."""
    return (
        declaration is not None
        and len(declaration) > 1
        and bool(declaration[1].get("rawLink", False))
    )


def _hidden(kind: str, node_id: str, item: QueueItem) -> Any:
    everything = {**item.extra_data, **item.sensitive}
    return {
        "PROMPT": item.prompt,
        "DYNPROMPT": item.prompt,
        "EXTRA_PNGINFO": everything.get("extra_pnginfo"),
        "UNIQUE_ID": node_id,
        "AUTH_TOKEN_COMFY_ORG": everything.get("auth_token_comfy_org"),
        "API_KEY_COMFY_ORG": everything.get("api_key_comfy_org"),
    }.get(kind)
