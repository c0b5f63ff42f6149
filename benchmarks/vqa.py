"""Questions/s of learning and answering where a picture is worked out once for all its questions, and where it is not.

    python benchmarks/vqa.py [--per-image K ...] [--cells SIDE ...] [--questions N] [--repeats R] [--json FILE]

    random maps, questions of drawn lengths ─► `Vlm` ─┬► shared: a picture for K questions, `prefix: image` ─┐
                                                      ├► full:   the same batch, `prefix: full`              ├► medians
                                                      └► plain:  pairs of a map and a question ──────────────┤
    random pixels ─► backbone ─► `Vlm`, `prefix: image` ┬► shared: each picture once ────────────────────────┤
                                                        └► plain:  once for each question ───────────────────┘

`plain`, the reference, is the network of `shared`, fed as a `DataLoader` of (picture, question) pairs feeds it. That
both give the same losses is checked first. All arms take turns, in one process with one thread.

Batches are made up: words and maps are random numbers, and only the lengths of questions and answers are those of the
questions about drawn outfits. A step of learning is forward, backward and AdamW; answering ranks known answers that
differ in their first token, so that each question takes one pass behind its prefix.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fashionkit.engine.threads import one_thread
from fashionkit.models.answer_trie import AnswerTrie
from fashionkit.models.vlm import Vlm
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.vision.backbones import Backbone, build_backbone
from fashionkit.vision.memory import keep_memory

# Tokens of questions about drawn outfits, at the 5th, 15th, … 95th percentile; of their answers, of a hundred of them.
QUESTION = (8, 10, 11, 12, 13, 14, 15, 16, 17, 20)
ANSWER = (2,) * 84 + (3,) * 12 + (4,) * 3 + (5,)
WORDS, KNOWN, CHANNELS = 2048, 200, 320
SEEDS = {"weights": 0, "data": 1}
Figures = dict[str, Any]


class Batch(NamedTuple):
    """Arguments of `Vlm.losses`; `shown` are maps, or pixels that the backbone makes maps of."""

    shown: Tensor
    image_of: Tensor
    question: Tensor
    answer: Tensor

    def pairs(self) -> Batch:
        """The same questions, each with a picture of its own."""
        return self._replace(shown=self.shown[self.image_of], image_of=torch.arange(len(self.image_of)))


class Arm(NamedTuple):
    """One way to do the same work."""

    name: str
    network: Vlm
    backbone: Backbone | None
    apart: bool

    def cells(self, batch: Batch) -> Batch:
        """The batch as this arm feeds it to the network."""
        batch = batch.pairs() if self.apart else batch
        return batch if self.backbone is None else batch._replace(shown=self.backbone.spatial(batch.shown))

    def losses(self, batch: Batch) -> Tensor:
        """(n,)."""
        return self.network.losses(*self.cells(batch), answer_class=batch.image_of)

    def parts(self) -> nn.ModuleList:
        """What learns."""
        return nn.ModuleList([self.network, *([] if self.backbone is None else [self.backbone])])


def made_up(n: int, per_image: int, shape: tuple[int, ...]) -> Batch:
    """A batch of n questions.

    Args:
        per_image: Questions of each picture. shape: Of what is shown of a picture.
    """
    random = torch.Generator().manual_seed(SEEDS["data"])
    image_of = torch.arange(n) // per_image
    shown = torch.randn(int(image_of[-1]) + 1, *shape, generator=random)
    question, answer = (_texts(n, lengths, random) for lengths in (QUESTION, ANSWER))
    ends = (answer != 0).sum(1) - 1
    answer[torch.arange(n), ends] = 2
    return Batch(shown, image_of, question, answer)


def _texts(n: int, lengths: tuple[int, ...], random: torch.Generator) -> Tensor:
    """(n, T) ids of words, 0 behind."""
    length = torch.tensor(lengths)[torch.randint(len(lengths), (n,), generator=random)]
    ids = torch.randint(3, WORDS, (n, int(length.max())), generator=random)
    return ids * (torch.arange(ids.shape[1]) < length[:, None])


def network(options: argparse.Namespace, channels: int, cells: tuple[int, int], prefix: str) -> Vlm:
    """The network, the same weights for each prefix."""
    torch.manual_seed(SEEDS["weights"])
    sizes = {"width": options.width, "layers": options.layers, "heads": 4, "feed": 4 * options.width}
    return Vlm(VqaConfig("vlm", channels, cells, WORDS, KNOWN, prefix=prefix, **sizes))


def of_maps(options: argparse.Namespace, side: int) -> tuple[list[Arm], tuple[int, ...]]:
    """The arms on cached maps, the reference last, and the shape of a map."""
    cells = (side, side)
    image, full = (network(options, CHANNELS, cells, prefix) for prefix in ("image", "full"))
    arms = [Arm("shared", image, None, False), Arm("full", full, None, False), Arm("plain", image, None, True)]
    return arms, (CHANNELS, *cells)


def of_pixels(options: argparse.Namespace) -> tuple[list[Arm], tuple[int, ...]]:
    """The arms end to end."""
    backbone = build_backbone(options.backbone, f"random:{SEEDS['weights']}", options.side)
    with torch.no_grad():
        channels, *cells = backbone.spatial(torch.zeros(1, 3, options.side, options.side)).shape[1:]
    image = network(options, channels, (cells[0], cells[1]), "image")
    arms = [Arm("shared", image, backbone, False), Arm("plain", image, backbone, True)]
    return arms, (3, options.side, options.side)


def learning(arm: Arm, batch: Batch) -> Callable[[], None]:
    """A step of training."""
    optimizer = torch.optim.AdamW(arm.parts().parameters(), 1e-4)

    def step() -> None:
        arm.parts().train()
        optimizer.zero_grad()
        arm.losses(batch).mean().backward()
        optimizer.step()

    return step


def answering(arm: Arm, batch: Batch) -> Callable[[], None]:
    """Log-probabilities of all known answers."""
    trie = AnswerTrie([(3 + number,) for number in range(KNOWN)])

    def step() -> None:
        arm.parts().eval()
        with torch.no_grad():
            ready = arm.cells(batch)
            arm.network.rank(ready.shown, ready.image_of, ready.question, trie)

    return step


def check(arms: list[Arm], batch: Batch) -> None:
    """Stops where sharing changes the losses."""
    for arm in arms:
        arm.parts().eval()
    with torch.no_grad():
        shared, plain = (arm.losses(batch) for arm in arms if arm.name != "full")
    worst = float((shared - plain).abs().max())
    if not worst < 1e-3:
        raise SystemExit(f"sharing a picture gives other losses than not sharing it: {worst:g}")


def measure(arms: list[Arm], batch: Batch, repeats: int, say: Callable[[str], None]) -> list[Figures]:
    """Medians of all arms, which take turns."""
    check(arms, batch)
    steps = {(what, arm.name): make(arm, batch) for what, make in WORK.items() for arm in arms}
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in steps}
    for turn in range(-1, repeats):  # the first turn is not counted: memory is taken then
        for key, step in steps.items():
            say(f"turn {turn + 1} of {repeats}: {', '.join(key)}")
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if turn >= 0:
                seconds[key].append((time.perf_counter() - wall, time.process_time() - cpu))
    return [row(key, taken, seconds[key[0], "plain"], len(batch.image_of)) for key, taken in seconds.items()]


def row(key: tuple[str, str], taken: list[Any], plain: list[Any], questions: int) -> Figures:
    """One line of the table."""
    found: Figures = {"what": key[0], "arm": key[1]}
    for at, name in enumerate(("wall", "cpu")):
        own, reference = (median(one[at] for one in several) for several in (taken, plain))
        found |= {f"{name}_rate": round(questions / own, 1), f"{name}_ratio": round(reference / own, 2)}
    return found


WORK = {"learning": learning, "answering": answering}


def tables(options: argparse.Namespace, say: Callable[[str], None]) -> Iterator[Figures]:
    """A table for each number of questions of a picture, and what is shown of it."""
    for per_image in options.per_image:
        shown: list[tuple[str, Callable[[], Any]]] = [
            (f"maps, {side**2} image tokens", lambda side=side: of_maps(options, side)) for side in options.cells
        ]
        shown.append((f"pixels, {options.backbone} at {options.side} px", lambda: of_pixels(options)))
        for name, made in shown:
            arms, shape = made()
            batch = made_up(options.questions, per_image, shape)
            head = {"shown": name, "per_image": per_image, "pictures": len(batch.shown)}
            head |= {"image_tokens": arms[0].network.config.image_tokens}
            parameters = sum(value.numel() for value in arms[0].parts().parameters())
            say(f"{name}, {per_image} questions of each picture")
            yield {**head, "parameters": parameters, "rows": measure(arms, batch, options.repeats, say)}


def machine(options: argparse.Namespace) -> Figures:
    """What the figures depend on."""
    facts = {"cores": os.cpu_count(), "load before": round(os.getloadavg()[0], 1), "python": platform.python_version()}
    facts |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    return facts | {name: getattr(options, name) for name in ("questions", "width", "layers", "repeats")}


def lines(figures: Figures) -> Iterator[str]:
    """The figures as text for people."""
    yield ", ".join(f"{key} {value}" for key, value in figures["machine"].items())
    for table in figures["tables"]:
        yield ""
        yield f"{table['shown']}; {table['pictures']} pictures with {table['per_image']} questions each"
        yield f"{'':<10}{'':<8}{'questions/s':>12}{'x plain':>9}{'by cpu':>9}{'x plain':>9}"
        for one in table["rows"]:
            cells = f"{one['wall_rate']:>12}{one['wall_ratio']:>9}{one['cpu_rate']:>9}{one['cpu_ratio']:>9}"
            yield f"{one['what']:<10}{one['arm']:<8}{cells}"
    yield ""
    yield "x plain: how many times as many questions as the loop over pairs of a picture and a question."
    yield "by cpu: a second of processor time, which other work on the machine changes less."


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description="Learning and answering with shared pictures, beside a plain loop.")
    several = {"type": int, "nargs": "+"}
    parser.add_argument("--per-image", default=[8], help="questions of a picture (default: 8)", **several)
    parser.add_argument("--cells", default=[4, 7], help="sides of cached maps (default: 4 7)", **several)
    parser.add_argument("--questions", type=int, default=256, help="of a batch (default: %(default)s)")
    parser.add_argument("--width", type=int, default=192, help="of the network (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=4, help="of the network (default: %(default)s)")
    parser.add_argument("--backbone", default="timm/mobilenetv3_small_100", help="(default: %(default)s)")
    parser.add_argument("--side", type=int, default=128, help="pixels of a picture's side (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="medians are over so many (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()

    def say(line: str) -> None:
        print(f"... {line}", file=sys.stderr, flush=True)

    keep_memory()
    with one_thread():
        figures: Figures = {"machine": machine(options), "tables": list(tables(options, say))}
    print("\n".join(lines(figures)))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
