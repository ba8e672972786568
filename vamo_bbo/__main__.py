"""``python -m vamo_bbo``: see :mod:`vamo_bbo.cli`."""

import sys

from vamo_bbo.cli import main

if __name__ == "__main__":
    sys.exit(main())
