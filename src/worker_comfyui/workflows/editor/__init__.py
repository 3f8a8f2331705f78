"""ComfyUI's editor format → its API format, as the editor exports it; `convert` is the way in."""
