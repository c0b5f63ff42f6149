"""Lightning without its talk: its warnings of what matters stay, its tips and what nobody can follow do not come."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Advice of libraries that does not hold here, or that nobody who runs a recipe can follow.
NOISE = (
    r".*does not have many workers.*",
    r".*smaller than the logging interval.*",
    r".*in eval mode at the start of training.*",
    r".*tensorboardX.*",
    r".*LeafSpec.*|.*treespec.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*GPU available but not used.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*lr_scheduler\.step\(\)` before `optimizer\.step\(\)`.*",  # a GradScaler may leave out the first steps
    r".*Found \d+ module\(s\) in eval mode.*",
    r".*WeightAveraging callback, but .* a checkpoint outside the 'fit' stage.*",
    r".*No device id is provided via `init_process_group`.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's talk of devices, tips and loggers is silent; its warnings of what matters are not."""
    names = ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in NOISE:
                warnings.filterwarnings("ignore", message=message)
            # Lightning calls jsonargparse by old names.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(lightning|jsonargparse)\.")
            warnings.filterwarnings("ignore", message=r"\s*(By default only one Jsonargparse|.*was deprecated in v4)")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
