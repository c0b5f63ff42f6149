"""Runs a stage's shards, over the cores of this machine or on a Ray cluster, and says how far it is."""

from fashionkit.engine.progress import Progress, progress
from fashionkit.engine.shards import ENGINES, WorkerLost, engine_session, run_shards

__all__ = ["ENGINES", "Progress", "WorkerLost", "engine_session", "progress", "run_shards"]
