"""The HTTP routes, one file per family; each has a table ``ROUTES``."""
