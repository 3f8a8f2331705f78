"""What a person has and does on the page."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.worker_comfyui.workflows.graphs import graph, inner_link, node, subgraph

TEXT = "a lighthouse at dusk"
SEED = 9223372036854775809  # larger than JavaScript's numbers


def _port(name: str, link: int) -> dict[str, Any]:
    return {"id": f"{name}-{link}", "name": name, "type": "IMAGE", "linkIds": [link]}


PAINTER = node(
    11,
    "PagePainter",
    *(TEXT, SEED, "fixed", 1, "euler"),
    links={"image": 1},
    gives=("IMAGE",),
    title="Prompt",
)
EDITOR_FILE: dict[str, Any] = graph(
    node(1, "LoadImage", "photo.png", "image", gives=("IMAGE", "MASK"), title="Photo"),
    node(2, "Paint", links={"image": 1}, gives=("IMAGE",)),
    node(3, "SaveImage", "dusk", links={"images": 2}, gives=()),
    links=[[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
    definitions={
        "subgraphs": [
            subgraph(
                "Paint",
                PAINTER,
                links=[inner_link(1, (-10, 0), (11, 0)), inner_link(2, (11, 0), (-20, 0))],
                inputs=[_port("image", 1)],
                outputs=[_port("IMAGE", 2)],
            )
        ]
    },
)
"""A photo, and in a subgraph what is painted over it."""
API_FILE: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 512, "height": 320, "batch_size": 1, "color": 0x334B8F},
        "_meta": {"title": "Sea"},
    },
    "2": {
        "class_type": "PagePainter",
        "inputs": {
            "image": ["1", 0],
            "text": TEXT,
            "seed": SEED,
            "steps": 1,
            "sampler_name": "euler",
        },
        "_meta": {"title": "Prompt"},
    },
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "sea"}},
}
"""The same without a photo."""
EVERY_KIND: dict[str, Any] = {
    **API_FILE,
    "4": {"class_type": "RepeatImageBatch", "inputs": {"image": ["2", 0], "amount": 8}},
    "5": {"class_type": "CreateVideo", "inputs": {"images": ["4", 0], "fps": 8}},
    "6": {
        "class_type": "SaveVideo",
        "inputs": {"video": ["5", 0], "filename_prefix": "film", "format": "mp4", "codec": "h264"},
    },
    "7": {
        "class_type": "EmptyAudio",
        "inputs": {"duration": 0.5, "sample_rate": 44100, "channels": 2},
    },
    "8": {"class_type": "SaveAudio", "inputs": {"audio": ["7", 0], "filename_prefix": "waves"}},
    "9": {
        "class_type": "PrimitiveStringMultiline",
        "inputs": {"value": "a <b>storm</b> over the sea"},
    },
    "10": {"class_type": "PreviewAny", "inputs": {"source": ["9", 0]}},
    "11": {
        "class_type": "TestOutput",
        "inputs": {
            "ui": '{"files": [{"filename": "page.html", "subfolder": "", "type": "output"}]}',
            "files": '{"page.html": "PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=="}',
        },
    },
}
"""A picture, a film, a sound, a text, and a file that is a page of its own."""


def photo() -> bytes:
    """A sky over a sea."""
    size = (512, 320)
    gradient = Image.linear_gradient("L").resize(size)
    image = Image.composite(
        Image.new("RGB", size, (250, 160, 110)), Image.new("RGB", size, (24, 28, 70)), gradient
    )
    image.paste((24, 52, 92), (0, 214, *size))
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def drop(page: Page, selector: str, name: str, content: bytes, kind: str = "") -> None:
    """Drop a file on an element, as a hand does."""
    transfer = page.evaluate_handle(
        """([name, bytes, type]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(bytes)], name, {type}));
            return transfer;
        }""",
        [name, list(content), kind],
    )
    for event in ("dragover", "drop"):
        page.dispatch_event(selector, event, {"dataTransfer": transfer})


def drop_workflow(page: Page, workflow: Any = API_FILE, says: str = "") -> None:
    """Drop a workflow's file, and wait for what the page says of it."""
    drop(page, "#workflow-drop", "dusk.json", json.dumps(workflow).encode())
    expect(page.locator("#workflow-name")).to_have_text("dusk.json")
    expect(page.locator("#workflow-state")).to_have_text(says)


def prompt(page: Page) -> Locator:
    """The field of the prompt."""
    return page.get_by_label("text", exact=True)


def run(page: Page, text: str, steps: int = 1) -> None:
    """Change the prompt, and run."""
    prompt(page).fill(text)
    page.get_by_label("steps").fill(str(steps))
    page.get_by_role("button", name="Run").click()


def state(page: Page) -> Locator:
    """The word for the state of the job that is shown."""
    return page.locator("#job-state")


def copied(page: Page) -> str:
    """What the page has copied into the clipboard."""
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied")
    return str(page.evaluate("navigator.clipboard.readText()"))
