"""What the caller sent: read, checked, and fetched."""
