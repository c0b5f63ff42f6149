"""Runs a stage's shards over the cores of this machine and says how far it is."""

from fashionkit.engine.progress import Progress, progress
from fashionkit.engine.shards import WorkerLost, run_shards

__all__ = ["Progress", "WorkerLost", "progress", "run_shards"]
