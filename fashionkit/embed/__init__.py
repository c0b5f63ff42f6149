"""What applications import: `Embedder` for pictures, `embed_catalog` for a catalogue, `VQAModel` for questions."""

from __future__ import annotations

from typing import Any

__all__ = ["Embedder", "VQAModel", "embed_catalog"]


def __getattr__(name: str) -> Any:
    """Loads what is asked for, since torch takes seconds."""
    if name == "Embedder":
        from fashionkit.embed.embedder import Embedder

        return Embedder
    if name == "VQAModel":
        from fashionkit.embed.asking import VQAModel

        return VQAModel
    if name == "embed_catalog":
        from fashionkit.embed.catalog import embed_catalog

        return embed_catalog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
