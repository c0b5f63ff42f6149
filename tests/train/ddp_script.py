"""Started by Lightning once for each process of a run: `watch` notes which rows each sees, and the first gradients."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from fashionkit.train.style import StyleTask


def watch(notes: Path, setattr_: Any = setattr) -> None:
    """Lets `StyleTask` write into a folder: `train-RANK.txt`, `val-RANK.txt`, `gradients-RANK.pt`."""
    begin, judge = StyleTask.training_step, StyleTask.validation_step

    def training_step(self: StyleTask, batch: dict[str, Any], batch_idx: int) -> Any:
        note(self, "train", [self.current_epoch, *batch["row"].tolist()])
        return begin(self, batch, batch_idx)

    def validation_step(self: StyleTask, batch: dict[str, Any], batch_idx: int) -> None:
        note(self, "val", batch["row"].tolist())
        judge(self, batch, batch_idx)

    def on_before_optimizer_step(self: StyleTask, optimizer: Any) -> None:
        """Gradients are those of all processes by now."""
        if self.global_step == 0:
            found = {name: value.grad for name, value in self.named_parameters() if value.grad is not None}
            torch.save(found, notes / f"gradients-{self.global_rank}.pt")

    def note(self: StyleTask, what: str, numbers: list[int]) -> None:
        with (notes / f"{what}-{self.global_rank}.txt").open("a") as file:
            print(*numbers, file=file)

    for function in (training_step, validation_step, on_before_optimizer_step):
        setattr_(StyleTask, function.__name__, function)


if __name__ == "__main__":
    from fashionkit.cli import main

    watch(Path(sys.argv[1]))
    torch.set_num_threads(1)
    sys.exit(main(["train", *sys.argv[2:]]))
