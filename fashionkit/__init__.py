"""fashionkit: from a catalogue of fashion photos to questions, models, embeddings and recommendations.

Importing this package imports nothing heavy: torch and its family are loaded by the rooms that need them.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`from fashionkit import Embedder, VQAModel` loads torch; `import fashionkit` does not."""
    if name == "Embedder":
        from fashionkit.embed.embedder import Embedder

        return Embedder
    if name == "VQAModel":
        from fashionkit.embed.asking import VQAModel

        return VQAModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
