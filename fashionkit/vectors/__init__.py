"""Vectors under ids: written part by part, looked up, and searched exactly or by an index."""

from fashionkit.vectors.index import FaissIndex
from fashionkit.vectors.schema import finish_vectors, write_part, write_rejects, write_vectors
from fashionkit.vectors.search import top_k, unit
from fashionkit.vectors.store import EmbeddingStore

__all__ = [
    "EmbeddingStore",
    "FaissIndex",
    "finish_vectors",
    "top_k",
    "unit",
    "write_part",
    "write_rejects",
    "write_vectors",
]
