"""Images, their metadata, and media types."""
