"""The worker: turns one RunPod job into one ComfyUI prompt, and its outputs into one result."""
