"""Everything that speaks with ComfyUI: its process, its HTTP and websocket API, its events."""
