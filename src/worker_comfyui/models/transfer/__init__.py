"""Downloads one large file: for the worker, `scripts/download-models` and the images alike.

It imports nothing of the worker and nothing but the standard library: the build of an image copies
this folder alone.
"""
