"""`python -m fashionkit` is the same as the `fashionkit` command."""

import sys

from fashionkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
