"""The description of node classes that ``GET /object_info`` gives."""

from __future__ import annotations

from local_comfyui.prompt import Json, NodeClass, is_output_node


def describe(name: str, node_class: NodeClass, display_name: str | None) -> Json:
    """Describe one node class (ComfyUI 0.3.64 ``server.py`` ``node_info``).

    A core node's recorded ``DEFINITION`` is given as it is; only the inputs are asked for anew.
    """
    inputs = node_class.INPUT_TYPES()
    output = list(node_class.RETURN_TYPES)
    info: Json = {
        "input": inputs,
        "input_order": {section: list(declared) for section, declared in inputs.items()},
        "output": output,
        "output_is_list": list(getattr(node_class, "OUTPUT_IS_LIST", [False] * len(output))),
        "output_name": list(getattr(node_class, "RETURN_NAMES", output)),
        "name": name,
        "display_name": display_name or name,
        "description": getattr(node_class, "DESCRIPTION", ""),
        "python_module": getattr(node_class, "RELATIVE_PYTHON_MODULE", "nodes"),
        "category": getattr(node_class, "CATEGORY", "sd"),
        "output_node": is_output_node(node_class),
    }
    if hasattr(node_class, "OUTPUT_TOOLTIPS"):
        info["output_tooltips"] = node_class.OUTPUT_TOOLTIPS
    for attribute in ("DEPRECATED", "EXPERIMENTAL", "API_NODE"):
        if getattr(node_class, attribute, False):
            info[attribute.lower()] = True
    recorded = getattr(node_class, "DEFINITION", {})
    return info | {key: value for key, value in recorded.items() if key != "input"}
