"""Self-contained HTML pages: one file, no server, no network."""

from fashionkit.report.html import Html, data_uri, escape, page

__all__ = ["Html", "data_uri", "escape", "page"]
