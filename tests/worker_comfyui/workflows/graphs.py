"""Small files of the editor, made in the test that needs them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def node(id_: int | str, type_: str, *values: Any, **more: Any) -> Json:
    """Make a node; `links` gives its inputs, `gives` the types of its outputs."""
    links: dict[str, Any] = more.pop("links", {})
    gives: tuple[str, ...] = more.pop("gives", ("*",))
    inputs = [{"name": name, "type": "*", "link": link} for name, link in links.items()]
    outputs = [{"name": kind, "type": kind, "links": []} for kind in gives]
    made = {"id": id_, "type": type_, "inputs": inputs, "outputs": outputs, "mode": 0}
    return made | ({"widgets_values": list(values)} if values else {}) | more


def graph(*nodes: Json, links: list[Any] | None = None, **more: Any) -> Json:
    """Make a file."""
    return {"nodes": list(nodes), "links": links or [], "version": 0.4} | more


def subgraph(id_: str, *nodes: Json, links: list[Json], **ports: list[Json]) -> Json:
    """Make a subgraph definition; `inputs` and `outputs` are its ports."""
    return {"id": id_, "name": id_, "nodes": list(nodes), "links": links} | ports


def inner_link(id_: int, origin: tuple[int, int], target: tuple[int, int]) -> Json:
    """Make a link of a subgraph."""
    return {
        "id": id_,
        "origin_id": origin[0],
        "origin_slot": origin[1],
        "target_id": target[0],
        "target_slot": target[1],
        "type": "*",
    }


def text_to_image() -> Json:
    """The workflow that ComfyUI starts with, in short."""
    return graph(
        node(1, "CheckpointLoaderSimple", "m.safetensors", gives=("MODEL", "CLIP", "VAE")),
        node(2, "CLIPTextEncode", "a cat", links={"clip": 1}, gives=("CONDITIONING",)),
        node(3, "CLIPTextEncode", "", links={"clip": 2}, gives=("CONDITIONING",), title="Negative"),
        node(4, "EmptyLatentImage", 512, 512, 1, gives=("LATENT",)),
        node(
            5,
            "KSampler",
            *(7, "randomize", 20, 8, "euler", "normal", 1),
            links={"model": 3, "positive": 4, "negative": 5, "latent_image": 6},
            gives=("LATENT",),
        ),
        node(6, "VAEDecode", links={"samples": 7, "vae": 8}, gives=("IMAGE",)),
        node(7, "SaveImage", "ComfyUI", links={"images": 9}, gives=()),
        links=[
            [1, 1, 1, 2, 0, "CLIP"],
            [2, 1, 1, 3, 0, "CLIP"],
            [3, 1, 0, 5, 0, "MODEL"],
            [4, 2, 0, 5, 1, "CONDITIONING"],
            [5, 3, 0, 5, 2, "CONDITIONING"],
            [6, 4, 0, 5, 3, "LATENT"],
            [7, 5, 0, 6, 0, "LATENT"],
            [8, 1, 2, 6, 1, "VAE"],
            [9, 6, 0, 7, 0, "IMAGE"],
        ],
    )


def chain(length: int) -> Json:
    """A picture that is inverted again and again."""
    nodes = [node(1, "LoadImage", "a.png", "image", gives=("IMAGE", "MASK"))]
    links = []
    for number in range(2, length):
        nodes.append(node(number, "ImageInvert", links={"image": number}, gives=("IMAGE",)))
        links.append([number, number - 1, 0, number, 0, "IMAGE"])
    nodes.append(node(length, "PreviewImage", links={"images": length}, gives=()))
    return graph(*nodes, links=[*links, [length, length - 1, 0, length, 0, "IMAGE"]])


def broadcasts() -> Any:
    """Make a file of 30 kB that takes days: each expression looks at each input for long."""
    own = {"version": "7.8", "input_regex": "(a*)(a*)(a*)b"}
    properties = {"ue_convert": True, "ue_properties": own}
    broadcasters = [
        node(number, "EmptyImage", 8, 8, 1, 0, gives=("IMAGE",), properties=properties)
        for number in range(100)
    ]
    inputs = {"a" * 90 + str(number): None for number in range(100)}
    taking = node(1000, "ImageInvert", links=inputs, gives=("IMAGE",))
    for slot in taking["inputs"]:
        slot["type"] = "IMAGE"
    return graph(*broadcasters, taking)
