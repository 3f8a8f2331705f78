"""What a workflow names, where it can be had, and how it gets there."""
