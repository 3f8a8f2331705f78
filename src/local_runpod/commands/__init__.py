"""What people start: `serve`, `run` and `submit`."""
