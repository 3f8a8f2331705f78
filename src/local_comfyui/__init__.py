"""A ComfyUI-compatible server for machines without a GPU: the protocol is whole, models are not.

It answers as ComfyUI 0.3.64 does (plus a few later routes) and really executes the core nodes that
need no model, with numpy, Pillow and PyAV. ``main.py`` is started exactly as ComfyUI's own.
"""

from __future__ import annotations

COMFYUI_VERSION = "0.3.64"  # whose behaviour is followed; reported by /system_stats
