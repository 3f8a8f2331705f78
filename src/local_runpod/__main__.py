"""`python -m local_runpod serve|run|submit`."""

from __future__ import annotations

import sys

from local_runpod.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
