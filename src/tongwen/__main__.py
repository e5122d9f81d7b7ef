"""`python -m tongwen` is the command `tongwen`."""

from __future__ import annotations

import sys

from tongwen.cli import main

if __name__ == "__main__":
    sys.exit(main())
