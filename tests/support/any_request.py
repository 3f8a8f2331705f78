"""Jobs of any kind, nearly right ones above all."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.anything import ANY_TEXT, ANYTHING, SCALAR, Json, changed, damaged
from tests.support.comfyui import ROOT
from tests.support.workflows import node, png, saved_image, saved_input

EDITOR = json.loads((ROOT / "test_resources/workflows/editor/frame.json").read_text())
IMAGES: Json = {
    "1": node("LoadImage", image="a.png"),
    "2": node("ImageScale", image=["1", 0], width=16, height=16, upscale_method="bilinear",
              crop="disabled"),
    "3": node("ImageInvert", image=["2", 0]),
    "4": node("ImageBatch", image1=["3", 0], image2=["2", 0]),
    "5": node("SaveAnimatedWEBP", images=["4", 0], filename_prefix="a", fps=6.0, lossless=True,
              quality=80, method="default"),
    "6": node("PreviewImage", images=["3", 0]),
    "7": node("SaveImage", images=["1", 1], filename_prefix="%width%/a"),
}  # fmt: skip
REPORT: Json = {
    "1": node("TestOutput", ui='{"text": ["a"], "images": []}', files='{"a.bin": "AAAA"}')
}
GRAPHS = st.sampled_from([saved_image(), saved_input("a.png"), IMAGES, REPORT, EDITOR])


def in_a_file(value: Any, image_format: str) -> bytes:
    """A picture with a workflow in it, as ComfyUI saves it."""
    data, text = io.BytesIO(), json.dumps(value)
    key = "workflow" if "nodes" in value else "prompt"
    if image_format == "PNG":
        info = PngInfo()
        info.add_text(key, text, zip=len(text) % 2 == 0)
        Image.new("RGB", (4, 4)).save(data, "PNG", pnginfo=info)
    else:
        exif = Image.Exif()
        exif[0x0110 if key == "prompt" else 0x010F] = f"{key}:{text}"
        Image.new("RGB", (4, 4)).save(data, image_format, exif=exif)
    return data.getvalue()


def as_base64(data: bytes) -> str:
    """Write bytes as a request has them."""
    return base64.b64encode(data).decode()


@st.composite
def workflows(draw: st.DrawFn, url: str) -> Any:
    """A workflow in any of its forms, and nearly one."""
    made = draw(GRAPHS.flatmap(changed) | ANYTHING)
    endings = st.sampled_from(["", "/a.json", "/%", "/a?token=s3cr3t-t0k3n"])
    forms: dict[str, st.SearchStrategy[Any]] = {
        "as it is": st.just(made),
        "a text": st.just(json.dumps(made)),
        "a prompt": st.fixed_dictionaries({"prompt": st.just(made), "extra_data": ANYTHING}),
        "of the history": st.dictionaries(
            ANY_TEXT, st.fixed_dictionaries({"prompt": st.just([1, "a", made, {}])}), max_size=1
        ),
        "in a file": _files_with(made),
        "at an address": endings.map(lambda ending: url + ending),
        "stored": STORED | ANY_TEXT,
    }
    return draw(forms[draw(st.sampled_from(sorted(forms)))])


STORED = st.sampled_from(["good", "folder/good", "bad", "../outside", "link", "good."])
"""Names of which some are there."""


@st.composite
def _files_with(draw: st.DrawFn, made: Any) -> str:
    """A file with the workflow in it, perhaps damaged, as base64 or data URI."""
    file = json.dumps(made).encode()
    if isinstance(made, dict):
        file = in_a_file(made, draw(st.sampled_from(["PNG", "JPEG", "WEBP"])))
    head = draw(st.sampled_from(["data:;base64,", "data:image/png;base64,", ""]))
    return head + as_base64(draw(damaged(file)))


@st.composite
def files(draw: st.DrawFn, url: str) -> Any:
    """An entry of `images` or `files`."""
    content = draw(
        st.sampled_from([as_base64(png((9, 8, 7))), url, f"{url}/\ud800", "data:,%41%", "data:"])
        | damaged(png((1, 2, 3))).map(as_base64)
        | ANY_TEXT
    )
    name = draw(st.sampled_from(["a.png", "b.webp", "folder/c.mp4", "./a.png"]) | ANY_TEXT)
    return {"name": name, draw(st.sampled_from(["image", "data", "url"])): content}


@st.composite
def outputs(draw: st.DrawFn, url: str) -> Any:
    """`input.output`."""
    addresses = st.sampled_from([url, f"{url}/x?X-Amz-Signature=0", "http://[::1", ""]) | ANY_TEXT
    return draw(
        st.fixed_dictionaries(
            {},
            optional={
                "delivery": st.sampled_from(["s3", "base64"]),
                "format": st.sampled_from(["webp", "jpg", "png"]),
                "quality": st.integers(1, 100),
                "metadata": st.booleans(),
                "previews": st.booleans(),
                "workflow": st.booleans(),
                "live": st.booleans(),
                "upload": st.dictionaries(
                    st.sampled_from(["images", "videos", "result_00001_.png"]) | ANY_TEXT,
                    addresses | st.lists(addresses, max_size=3),
                    max_size=3,
                ),
            },
        )
    )


@st.composite
def models(draw: st.DrawFn, url: str) -> Any:
    """`input.models`: a list of entries, or a job for the models."""
    entry = {
        "folder": draw(st.sampled_from(["loras", "../x", ""]) | ANY_TEXT),
        "name": draw(st.sampled_from(["a.safetensors", "../b.ckpt", "c"]) | ANY_TEXT),
        "url": draw(st.sampled_from([f"{url}/a.safetensors", "https://huggingface.co/a"])),
    }
    return draw(st.sampled_from(["list", "usage", "verify", "fetch", "delete"]) | changed([entry]))


@st.composite
def requests_for(draw: st.DrawFn, url: str) -> Json:
    """A whole job: `input` and what stands beside it."""
    sent: Json = {"workflow": draw(workflows(url))}
    beside = {
        "images": st.lists(files(url), max_size=3),
        "files": st.lists(files(url), max_size=2),
        "output": outputs(url),
        "overrides": st.dictionaries(
            st.sampled_from(["1.color", "2.filename_prefix", "1.image", "SaveImage.images"])
            | ANY_TEXT,
            SCALAR | st.sampled_from(["random", ["1", 0]]),
            max_size=3,
        ),
        "models": models(url),
        "dry_run": st.booleans(),
        "timeout_s": st.sampled_from([1, 2.5, 6]),
        "extra_data": st.dictionaries(ANY_TEXT, ANYTHING, max_size=2),
    }
    for name in draw(st.lists(st.sampled_from(sorted(beside)), max_size=4, unique=True)):
        sent[name] = draw(beside[name])
    if isinstance(sent.get("models"), str) and draw(st.booleans()):
        del sent["workflow"]
        sent["names"] = draw(st.lists(ANY_TEXT, max_size=2))
    raw: Json = {"input": draw(changed(sent, 1))}
    if draw(st.integers(0, 3)) == 0:
        raw["s3Config"] = {
            "endpointUrl": f"{url}/bucket",
            "accessId": "an-access-id",
            "accessSecret": "an-access-secret",
        }
    return raw
