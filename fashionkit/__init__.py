"""fashionkit: from a catalogue of fashion photos to questions, models, embeddings and recommendations.

Importing this package imports nothing heavy: torch and its family are loaded by the rooms that need them.
"""

__version__ = "0.1.0"
