"""The workflow that ComfyUI embeds in the files that it saves; `reading` is the way in."""
