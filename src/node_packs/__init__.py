"""Custom nodes for the image: installed from the Comfy registry or git, at build time.

Runs in ComfyUI's own environment, with the standard library and ComfyUI's PyYAML.
"""
