"""The workflow that ComfyUI embeds in the files that it saves; `reading.read` finds it.

A reader for each container walks its structure and takes out the texts; pictures and sound are
neither decoded nor copied.
"""
