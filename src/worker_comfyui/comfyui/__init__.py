"""All that speaks with ComfyUI or reads its answers."""
