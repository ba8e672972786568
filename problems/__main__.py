"""``python -m problems``."""

import sys

from problems.cli import main

if __name__ == "__main__":
    sys.exit(main())
