"""The command line: `fashionkit <verb>`."""

from fashionkit.cli.shell import main

__all__ = ["main"]
