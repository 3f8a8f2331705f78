"""The worker: turns one RunPod job into one ComfyUI prompt, and its outputs into one result."""

__version__ = "1.0.0"
"""The one place that says it: a release has this as its tag, and a section in CHANGELOG.md."""
