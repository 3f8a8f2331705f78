"""One job's run: its steps, with a layer for each policy, and its files in ComfyUI's folders."""
