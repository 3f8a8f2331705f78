from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from worker_comfyui.job import OutputOptions
from worker_comfyui.media.image_info import ConversionError, Converted
from worker_comfyui.media.images import convert, describe

PROMPT = {"3": {"class_type": "KSampler", "inputs": {"seed": 7, "text": "Äpfel"}}}
WORKFLOW = {"nodes": [1, 2], "version": 0.4}
RED = (255, 0, 0)


def comfy_png(folder: Path, image: Image.Image | None = None) -> Path:
    """Save a PNG the way ComfyUI's SaveImage does."""
    info = PngInfo()
    info.add_text("prompt", json.dumps(PROMPT))
    info.add_text("workflow", json.dumps(WORKFLOW))
    path = folder / "a_00001_.png"
    (image or Image.new("RGB", (32, 24), RED)).save(path, pnginfo=info, compress_level=4)
    return path


def comfy_webp(folder: Path, frames: int = 1) -> Path:
    """Save a WebP the way ComfyUI's SaveAnimatedWEBP does."""
    images = [Image.new("RGB", (32, 24), (i * 90, 0, 0)) for i in range(frames)]
    exif = images[0].getexif()
    exif[0x0110] = f"prompt:{json.dumps(PROMPT)}"
    exif[0x010F] = f"workflow:{json.dumps(WORKFLOW)}"
    path = folder / "a_00001_.webp"
    images[0].save(path, save_all=True, append_images=images[1:], exif=exif, lossless=True)
    return path


def saved(folder: Path, image: Image.Image, extension: str, **options: Any) -> Path:
    path = folder / f"source.{extension}"
    image.save(path, **options)
    return path


def converted(source: Path, image_format: Any, **options: Any) -> Converted:
    result = convert(source, OutputOptions(format=image_format, **options))
    assert result is not None
    return result


def test_an_image_is_described_from_its_headers(tmp_path: Path) -> None:
    info = describe(comfy_png(tmp_path))
    assert info is not None
    assert (info.media_type, info.width, info.height, info.animated) == ("image/png", 32, 24, False)


@pytest.mark.parametrize(
    ("extension", "media_type"),
    [("webp", "image/webp"), ("gif", "image/gif"), ("png", "image/apng")],
)
def test_an_animation_is_described_as_one(tmp_path: Path, extension: str, media_type: str) -> None:
    frames = [Image.new("RGB", (8, 8), (i * 80, 0, 0)) for i in range(3)]
    path = saved(tmp_path, frames[0], extension, save_all=True, append_images=frames[1:])
    info = describe(path)
    assert info is not None
    assert (info.media_type, info.frames, info.animated) == (media_type, 3, True)


@pytest.mark.parametrize("options", [{"interlace": 1}, {"comment": b"x" * 1000}, {"loop": 0}])
def test_the_frames_of_a_gif_are_counted_as_pillow_counts_them(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    frames = [Image.effect_noise((40, 30), i * 10).convert("P") for i in range(1, 8)]
    path = saved(tmp_path, frames[0], "gif", save_all=True, append_images=frames[1:], **options)
    info = describe(path)
    assert info is not None
    with Image.open(path) as image:
        assert info.frames == image.n_frames == 7  # type: ignore[attr-defined]


def test_what_is_no_image_is_not_described(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"no image")
    assert describe(path) is None


@pytest.mark.parametrize(
    ("wanted", "extension", "media_type"),
    [("jpeg", ".jpg", "image/jpeg"), ("webp", ".webp", "image/webp")],
)
def test_a_png_becomes_another_format_with_its_workflow(
    tmp_path: Path, wanted: str, extension: str, media_type: str
) -> None:
    result = converted(comfy_png(tmp_path), wanted)
    assert result.extension == extension
    assert result.note is None
    with Image.open(result.path) as image:
        assert image.get_format_mimetype() == media_type
        assert image.size == (32, 24)
        exif = image.getexif()
        # The text up to the first colon is a name: that is how ComfyUI's page reads it back.
        assert json.loads(exif[0x0110].removeprefix("prompt:")) == PROMPT
        assert json.loads(exif[0x010F].removeprefix("workflow:")) == WORKFLOW


def test_a_webp_becomes_a_png_with_its_workflow(tmp_path: Path) -> None:
    result = converted(comfy_webp(tmp_path), "png")
    with Image.open(result.path) as image:
        assert image.format == "PNG"
        assert json.loads(image.info["prompt"]) == PROMPT
        assert json.loads(image.info["workflow"]) == WORKFLOW
        assert 0x0110 not in image.getexif()


@pytest.mark.parametrize("wanted", ["jpeg", "webp"])
def test_the_workflow_is_left_out_where_asked(tmp_path: Path, wanted: Any) -> None:
    result = converted(comfy_png(tmp_path), wanted, metadata=False)
    assert b"KSampler" not in result.path.read_bytes()
    with Image.open(result.path) as image:
        assert not image.getexif()


@pytest.mark.parametrize("image_format", [None, "png"])
def test_a_png_loses_its_workflow_without_a_change_of_its_pixels(
    tmp_path: Path, image_format: Any
) -> None:
    noise = Image.effect_noise((64, 64), 90)
    source = comfy_png(tmp_path, noise)
    result = converted(source, image_format, metadata=False)
    assert result.extension == ".png"
    with Image.open(result.path) as image:
        image.load()
        assert image.tobytes() == noise.tobytes()
        assert "prompt" not in image.info
    assert len(source.read_bytes()) - len(result.path.read_bytes()) > len(json.dumps(PROMPT))


@pytest.mark.parametrize("frames", [1, 3])
def test_a_webp_loses_its_workflow_without_a_change_of_its_pixels(
    tmp_path: Path, frames: int
) -> None:
    source = comfy_webp(tmp_path, frames)
    result = converted(source, None, metadata=False)
    assert b"KSampler" not in result.path.read_bytes()
    with Image.open(source) as before, Image.open(result.path) as after:
        assert after.n_frames == before.n_frames == frames  # type: ignore[attr-defined]
        assert not after.getexif()
        for frame in range(frames):
            before.seek(frame)
            after.seek(frame)
            assert after.convert("RGB").tobytes() == before.convert("RGB").tobytes()


def test_a_jpeg_loses_its_workflow_without_a_change_of_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = f"workflow:{json.dumps(WORKFLOW)}"
    noise = Image.effect_noise((64, 64), 90)
    source = saved(tmp_path, noise, "jpg", exif=exif, comment=b"KSampler")
    result = converted(source, None, metadata=False)
    with Image.open(source) as before, Image.open(result.path) as after:
        assert after.tobytes() == before.tobytes()
        assert not after.getexif()
        assert "comment" not in after.info


def test_an_animated_png_loses_its_workflow(tmp_path: Path) -> None:
    info = PngInfo()
    info.add(b"comf", b"prompt\0" + json.dumps(PROMPT).encode(), after_idat=True)
    frames = [Image.new("RGB", (8, 8), (i * 80, 0, 0)) for i in range(3)]
    source = saved(
        tmp_path, frames[0], "png", save_all=True, append_images=frames[1:], pnginfo=info
    )
    assert b"KSampler" in source.read_bytes()
    result = converted(source, "jpeg", metadata=False)
    assert b"KSampler" not in result.path.read_bytes()
    with Image.open(result.path) as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("extension", ["webp", "gif", "png"])
def test_an_animation_is_left_alone(tmp_path: Path, extension: str) -> None:
    frames = [Image.new("RGB", (8, 8), (i * 80, 0, 0)) for i in range(3)]
    path = saved(tmp_path, frames[0], extension, save_all=True, append_images=frames[1:])
    assert convert(path, OutputOptions(format="jpeg")) is None


@pytest.mark.parametrize("content", [b"", b"no image", b"glTF\2\0\0\0"])
def test_what_is_no_image_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert convert(path, OutputOptions(format="jpeg", metadata=False)) is None


def test_an_image_that_has_the_format_already_is_left_alone(tmp_path: Path) -> None:
    assert convert(comfy_png(tmp_path), OutputOptions(format="png")) is None
    assert convert(comfy_png(tmp_path), OutputOptions()) is None


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white_in_jpeg_and_stays_in_webp(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0)).convert(mode)
    source = saved(tmp_path, image, "png")
    with Image.open(converted(source, "jpeg").path) as jpeg:
        assert jpeg.convert("RGB").getpixel((8, 8)) == (255, 255, 255)
    with Image.open(converted(source, "webp").path) as webp:
        assert webp.convert("RGBA").getchannel("A").getpixel((8, 8)) == 0


def test_half_transparent_red_becomes_pink_in_jpeg(tmp_path: Path) -> None:
    source = saved(tmp_path, Image.new("RGBA", (16, 16), (255, 0, 0, 128)), "png")
    with Image.open(converted(source, "jpeg", quality=100).path) as image:
        pixel = image.getpixel((8, 8))
    assert isinstance(pixel, tuple)
    assert all(abs(a - b) <= 3 for a, b in zip(pixel, (255, 127, 127), strict=True))


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    source = saved(tmp_path, Image.new("I;16", (16, 16), 0x8000), "png")
    for wanted in ("jpeg", "webp"):
        with Image.open(converted(source, wanted).path) as image:
            value = image.convert("L").getpixel((8, 8))
        assert isinstance(value, int | float)
        assert abs(value - 0x80) <= 2
    tiff = saved(tmp_path, Image.new("I;16", (16, 16), 0x8123), "tiff")
    with Image.open(converted(tiff, "png").path) as image:
        assert image.getpixel((8, 8)) == 0x8123


@pytest.mark.parametrize(
    ("mode", "extension"),
    [("1", "png"), ("L", "png"), ("CMYK", "jpg"), ("CMYK", "tiff"), ("RGB", "bmp"), ("L", "tiff")],
)
@pytest.mark.parametrize("wanted", ["png", "jpeg", "webp"])
def test_every_mode_finds_its_way(tmp_path: Path, mode: str, extension: str, wanted: Any) -> None:
    source = saved(tmp_path, Image.new(mode, (16, 16)), extension)
    result = convert(source, OutputOptions(format=wanted))
    if result is None:
        assert wanted == {"jpg": "jpeg"}.get(extension, extension)
        return
    info = describe(result.path)
    assert info is not None
    assert (info.media_type, info.width) == (f"image/{wanted}", 16)


def test_floating_point_pixels_are_refused_not_guessed(tmp_path: Path) -> None:
    source = saved(tmp_path, Image.new("F", (16, 16), 0.5), "tiff")
    with pytest.raises(ConversionError, match="floating-point"):
        convert(source, OutputOptions(format="jpeg"))


def test_a_rotation_in_exif_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = saved(tmp_path, Image.new("RGB", (32, 24), RED), "jpg", exif=exif)
    for result in (converted(source, "png"), converted(source, None, metadata=False)):
        with Image.open(result.path) as image:
            assert image.size == (24, 32)
            assert 0x0112 not in image.getexif()


def test_a_colour_profile_stays(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (16, 16), RED)
    source = saved(tmp_path, image, "png", icc_profile=profile)
    for wanted in ("jpeg", "webp"):
        with Image.open(converted(source, wanted).path) as result:
            assert result.info["icc_profile"] == profile
    with Image.open(converted(source, None, metadata=False).path) as result:
        assert result.info["icc_profile"] == profile


def test_the_quality_counts(tmp_path: Path) -> None:
    source = saved(tmp_path, Image.effect_noise((128, 128), 90), "png")
    sizes = [converted(source, "jpeg", quality=q).path.stat().st_size for q in (10, 50, 95)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 2


def test_metadata_too_large_for_a_jpeg_is_left_out_with_a_note(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("prompt", json.dumps({"text": "x" * 70_000}))
    source = saved(tmp_path, Image.new("RGB", (8, 8)), "png", pnginfo=info)
    result = converted(source, "jpeg")
    assert result.note is not None
    assert "more than a JPEG can hold" in result.note
    assert converted(source, "webp").note is None


def test_an_image_too_large_for_the_format_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, Image.new("1", (16384, 2)), "png")
    with pytest.raises(ConversionError):
        convert(source, OutputOptions(format="webp"))


def test_a_cut_off_image_is_refused(tmp_path: Path) -> None:
    stream = BytesIO()
    Image.effect_noise((64, 64), 90).save(stream, "PNG")
    source = tmp_path / "cut.png"
    source.write_bytes(stream.getvalue()[:-500])
    with pytest.raises(ConversionError):
        convert(source, OutputOptions(format="jpeg"))
    with pytest.raises(ConversionError):
        convert(source, OutputOptions(metadata=False))


def test_a_full_disk_is_not_taken_for_a_damaged_image(tmp_path: Path) -> None:
    source = comfy_png(tmp_path)
    # Writing to /dev/full fails as on a full disk.
    (tmp_path / f"{source.name}.jpg").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        convert(source, OutputOptions(format="jpeg"))
