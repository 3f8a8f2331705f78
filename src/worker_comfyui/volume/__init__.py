"""Models outside ComfyUI's own folder: the network volume, and the platform's cached models."""
