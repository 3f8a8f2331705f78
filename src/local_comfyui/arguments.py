"""The command line: the flags of ComfyUI that a headless server is started with.

Names and defaults: ComfyUI 0.3.64 ``comfy/cli_args.py``, and flags of later releases that a worker
may pass. A flag that ComfyUI does not know ends the start with exit status 2; so it does here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PREVIEW_METHODS = ("none", "auto", "latent2rgb", "taesd")

# Flags that only steer models, devices or the browser: accepted, and without effect here.
_SWITCHES_WITHOUT_EFFECT = (
    "--allow-any-preview-method",
    "--async-offload",
    "--bf16-text-enc",
    "--bf16-unet",
    "--bf16-vae",
    "--cpu",
    "--cpu-vae",
    "--deterministic",
    "--disable-all-api-nodes",
    "--disable-api-nodes",
    "--disable-async-offload",
    "--disable-auto-launch",
    "--disable-cuda-malloc",
    "--disable-dynamic-vram",
    "--disable-manager-ui",
    "--disable-pinned-memory",
    "--disable-smart-memory",
    "--disable-xformers",
    "--disable-assets-autoscan",
    "--enable-assets",
    "--enable-compress-response-body",
    "--enable-manager",
    "--force-channels-last",
    "--force-fp16",
    "--force-fp32",
    "--force-non-blocking",
    "--force-upcast-attention",
    "--fp16-text-enc",
    "--fp16-unet",
    "--fp16-vae",
    "--fp32-text-enc",
    "--fp32-unet",
    "--fp32-vae",
    "--fp64-unet",
    "--fp8_e4m3fn-text-enc",
    "--fp8_e4m3fn-unet",
    "--fp8_e5m2-text-enc",
    "--fp8_e5m2-unet",
    "--fp8_e8m0fnu-unet",
    "--gpu-only",
    "--high-ram",
    "--highvram",
    "--lowvram",
    "--mmap-torch-files",
    "--multi-user",
    "--normalvram",
    "--novram",
    "--offline",
    "--disable-partner-nodes",
    "--disable-mmap",
    "--supports-fp8-compute",
    "--use-flash-attention",
    "--use-pytorch-cross-attention",
    "--use-quad-cross-attention",
    "--use-sage-attention",
    "--use-split-cross-attention",
    "--windows-standalone-build",
    "--dont-upcast-attention",
)
_VALUES_WITHOUT_EFFECT = (
    "--comfy-api-base",
    "--database-url",
    "--default-device",
    "--default-hashing-function",
    "--directml",
    "--front-end-root",
    "--front-end-version",
    "--oneapi-device-selector",
    "--preview-size",
    "--reserve-vram",
    "--tls-certfile",
    "--tls-keyfile",
)


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for, as far as it matters to this server."""

    listen: str
    port: int
    base_directory: Path | None
    input_directory: Path | None
    output_directory: Path | None
    temp_directory: Path | None
    user_directory: Path | None
    models_directory: Path | None
    extra_model_paths: tuple[Path, ...]
    disable_metadata: bool
    disable_all_custom_nodes: bool
    whitelist_custom_nodes: tuple[str, ...]
    max_upload_bytes: int
    cache_policy: str
    cache_size: int
    log_level: str
    log_stdout: bool
    print_server: bool
    quick_test: bool
    cors_origin: str | None


def parse(arguments: Sequence[str]) -> Arguments:
    """Parse ComfyUI's command line.

    Raises:
        SystemExit: With status 2 for an unknown flag or a bad value, 0 for ``--help``.
    """
    values = _parser().parse_args(arguments)
    return Arguments(
        listen=values.listen.split(",")[0],
        port=values.port,
        base_directory=values.base_directory,
        input_directory=values.input_directory,
        output_directory=values.output_directory,
        temp_directory=values.temp_directory,
        user_directory=values.user_directory,
        models_directory=values.models_directory,
        extra_model_paths=tuple(
            path for group in values.extra_model_paths_config for path in group
        ),
        disable_metadata=values.disable_metadata,
        disable_all_custom_nodes=values.disable_all_custom_nodes,
        whitelist_custom_nodes=tuple(values.whitelist_custom_nodes),
        max_upload_bytes=round(values.max_upload_size * 1024 * 1024),
        cache_policy=_cache_policy(values),
        cache_size=values.cache_lru,
        log_level=_log_level(values.verbose),
        log_stdout=values.log_stdout,
        print_server=not values.dont_print_server,
        quick_test=values.quick_test_for_ci,
        cors_origin=values.enable_cors_header,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py",
        description="A ComfyUI-compatible server that runs the core nodes which need no model.",
    )
    add = parser.add_argument
    add("--listen", default="127.0.0.1", metavar="IP", nargs="?", const="0.0.0.0,::")
    add("--port", type=int, default=8188)
    add("--enable-cors-header", nargs="?", const="*", metavar="ORIGIN")
    add("--max-upload-size", type=float, default=100, metavar="MB")
    for folder in ("base", "input", "output", "temp", "user", "models"):
        add(f"--{folder}-directory", type=Path)
    paths = {"type": Path, "nargs": "+", "action": "append", "default": [], "metavar": "PATH"}
    add("--extra-model-paths-config", **paths)  # type: ignore[arg-type] # keywords as a mapping
    add("--cuda-device")
    add("--preview-method", choices=_PREVIEW_METHODS, default="none")
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument("--cache-classic", action="store_true")
    cache.add_argument("--cache-lru", type=int, default=0, metavar="N")
    cache.add_argument("--cache-none", action="store_true")
    cache.add_argument("--cache-ram", nargs="*", type=float, metavar="GB")
    add("--disable-metadata", action="store_true")
    add("--disable-all-custom-nodes", action="store_true")
    add("--whitelist-custom-nodes", nargs="+", default=[], metavar="NAME")
    add("--fast", nargs="*")
    add("--feature-flag", action="append")
    add("--verbose", nargs="*", action="append", metavar="LEVEL")
    add("--log-stdout", action="store_true")
    add("--dont-print-server", action="store_true")
    add("--quick-test-for-ci", action="store_true")
    without_effect = parser.add_argument_group("accepted as in ComfyUI, without effect here")
    for flag in _SWITCHES_WITHOUT_EFFECT:
        without_effect.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    for flag in _VALUES_WITHOUT_EFFECT:
        without_effect.add_argument(flag, help=argparse.SUPPRESS)
    return parser


def _cache_policy(values: argparse.Namespace) -> str:
    if values.cache_none:
        return "none"
    if values.cache_lru > 0:
        return "lru"
    return "ram" if values.cache_ram is not None else "classic"


def _log_level(verbose: list[list[str]] | None) -> str:
    """The level of ``--verbose [LEVEL]``: bare means DEBUG, absent means INFO."""
    if not verbose:
        return "INFO"
    return verbose[0][0].upper() if verbose[0] else "DEBUG"
