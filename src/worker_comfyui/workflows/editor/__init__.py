"""ComfyUI's editor format → its API format, as the editor itself exports it.

`convert` is the way in. What the rules are, and where the editor's own export is random or broken,
is in docs/workflows.md. They are those of ComfyUI's frontend 1.49.6; ComfyUI serves no conversion.
"""
