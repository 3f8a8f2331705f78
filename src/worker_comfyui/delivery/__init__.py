"""What goes out: converted, inline or to a bucket, within the platform's limits."""
