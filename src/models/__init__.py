"""The model variants, and the download of their files."""
