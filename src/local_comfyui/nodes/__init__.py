"""The core nodes that run here: those that need no model and that examples and tests use."""

from __future__ import annotations

from functools import partial

from local_comfyui.nodes import audio, images, loading, saving, values, video
from local_comfyui.nodes.core_node import Comfy, InputFile, Node
from local_comfyui.prompt import NodeClass

NODES: dict[str, Node] = {
    "LoadImage": Node(loading.load_image, file=InputFile("image", "image", ("image",))),
    "LoadImageMask": Node(loading.load_mask, file=InputFile("image", "image")),
    "EmptyImage": Node(images.empty),
    "ImageInvert": Node(images.invert),
    "ImageCrop": Node(images.crop),
    "ImageScale": Node(images.scale),
    "ImageScaleBy": Node(images.scale_by),
    "ImageBatch": Node(images.batch_two),
    "RepeatImageBatch": Node(images.repeat),
    "ImageBlur": Node(images.blur),
    "ImageBlend": Node(images.blend),
    "ImageCompositeMasked": Node(images.composite),
    "MaskToImage": Node(images.mask_to_image),
    "GrowMask": Node(images.grow_mask),
    "SaveImage": Node(saving.save_pngs),
    "PreviewImage": Node(partial(saving.save_pngs, folder="temp", compress_level=1)),
    "SaveImageWebsocket": Node(saving.send_pngs, always_changed=True),
    "SaveAnimatedPNG": Node(saving.save_animated_png),
    "SaveAnimatedWEBP": Node(saving.save_animated_webp),
    "LoadVideo": Node(video.load, file=InputFile("file", "video", ("video",))),
    "CreateVideo": Node(video.create),
    "GetVideoComponents": Node(video.get_components),
    "SaveVideo": Node(video.save),
    "SaveWEBM": Node(video.save_webm),
    "LoadAudio": Node(audio.load, file=InputFile("audio", "audio", ("audio", "video"))),
    "EmptyAudio": Node(audio.empty),
    "SaveAudio": Node(audio.save),
    "SaveAudioMP3": Node(partial(audio.save, suffix="mp3")),
    "SaveAudioOpus": Node(partial(audio.save, suffix="opus")),
    "PreviewAudio": Node(partial(audio.save, folder="temp")),
    "PrimitiveString": Node(values.primitive),
    "PrimitiveStringMultiline": Node(values.primitive),
    "PrimitiveInt": Node(values.primitive),
    "PrimitiveFloat": Node(values.primitive),
    "PrimitiveBoolean": Node(values.primitive),
    "PreviewAny": Node(values.preview_any),
    "EmptyLatentImage": Node(images.empty_latent),
    "CheckpointLoaderSimple": Node(values.needs_model, model=("ckpt_name", "checkpoints")),
    "VAEDecode": Node(values.needs_model),
}


def core_node_classes(comfy: Comfy) -> dict[str, NodeClass]:
    """Every core node class of this server, by name."""
    return {name: node.build(name, comfy) for name, node in NODES.items()}
