"""The command line: the flags of ComfyUI that a headless server is started with.

Names and defaults: ComfyUI 0.3.64 ``comfy/cli_args.py``, and flags of later releases that a worker
may pass. A flag that ComfyUI does not know ends the start with exit status 2; so it does here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

# What steers models, devices or the browser is accepted, and without effect here.
_SWITCHES_WITHOUT_EFFECT = """
allow-any-preview-method async-offload bf16-text-enc bf16-unet bf16-vae cpu cpu-vae deterministic
disable-all-api-nodes disable-api-nodes disable-assets-autoscan disable-async-offload
disable-auto-launch disable-cuda-malloc disable-dynamic-vram disable-manager-ui disable-mmap
disable-partner-nodes disable-pinned-memory disable-smart-memory disable-xformers
dont-print-server dont-upcast-attention enable-assets enable-compress-response-body enable-manager
force-channels-last force-fp16 force-fp32 force-non-blocking force-upcast-attention fp16-text-enc
fp16-unet fp16-vae fp32-text-enc fp32-unet fp32-vae fp64-unet fp8_e4m3fn-text-enc fp8_e4m3fn-unet
fp8_e5m2-text-enc fp8_e5m2-unet fp8_e8m0fnu-unet gpu-only high-ram highvram log-stdout lowvram
mmap-torch-files multi-user normalvram novram offline supports-fp8-compute use-flash-attention
use-pytorch-cross-attention use-quad-cross-attention use-sage-attention use-split-cross-attention
windows-standalone-build
"""
_VALUES_WITHOUT_EFFECT = """
comfy-api-base cuda-device database-url default-device default-hashing-function directml
feature-flag front-end-root front-end-version oneapi-device-selector preview-method preview-size
reserve-vram tls-certfile tls-keyfile
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse ComfyUI's command line.

    Raises:
        SystemExit: With status 2 for an unknown flag or a bad value, 0 for ``--help``.
    """
    description = "A ComfyUI-compatible server that runs the core nodes which need no model."
    parser = argparse.ArgumentParser("main.py", description=description)
    add = parser.add_argument
    add("--listen", default="127.0.0.1", metavar="IP", nargs="?", const="0.0.0.0,::")
    add("--port", type=int, default=8188)
    add("--max-upload-size", type=float, default=100, metavar="MB")
    for folder in ("base", "input", "output", "temp", "user", "models"):
        add(f"--{folder}-directory", type=Path)
    add("--extra-model-paths-config", type=Path, nargs="+", action="append", default=[])
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument("--cache-classic", action="store_true")
    cache.add_argument("--cache-lru", type=int, metavar="N")
    cache.add_argument("--cache-none", action="store_const", dest="cache_lru", const=0)
    cache.add_argument("--cache-ram", nargs="*", type=float, metavar="GB")
    add("--disable-all-custom-nodes", action="store_true")
    add("--whitelist-custom-nodes", nargs="+", default=[], metavar="NAME")
    add("--verbose", nargs="*", action="append", default=[], metavar="LEVEL")
    for name in ("disable-metadata", "quick-test-for-ci"):
        add(f"--{name}", action="store_true")
    for name in ("fast", "enable-cors-header"):
        add(f"--{name}", nargs="*", help=argparse.SUPPRESS)
    for name in _SWITCHES_WITHOUT_EFFECT.split():
        add(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    for name in _VALUES_WITHOUT_EFFECT.split():
        add(f"--{name}", action="append", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)
