"""What an address leads to: which bucket it names, and whether the worker may connect there."""
