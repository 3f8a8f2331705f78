"""Custom nodes for the image: installed from the Comfy registry or git, at build time.

Runs in ComfyUI's own environment with nothing but the standard library.
"""
