"""ComfyUI as a process: its command, its start, its log, its end, and who keeps it alive."""
