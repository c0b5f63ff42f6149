"""Does a second round help: the same training with and without what the first round found hard.

    python benchmarks/reweight.py [--images N] [--samples N] [--seeds S] [--split val|test] [--json F] [--markdown F]

On a drawn catalogue with pictures, for each seed and each model (a thumbnail classifier and a blind one):

    set A (seed) ─┬► losses by cross-fitting over halves of the pictures ──► datagen reweight
                  └► the model, from scratch                  ┌───────────────────┴── settings of each arm
                        │     round 2 (another seed): arm `plain` without feedback, others with it; samples asked alike
                        └───────► the same model learns on: as many epochs ──► right answers on a third seed's questions

With `--scratch` the second round starts from nothing in place of what round 1 taught.

What is judged on is chosen by a model of another seed, from other questions:
- `hard kinds`: the quarter of the questions whose cells ("is the skirt navy?") cost that model most, beyond what their
  template and attributes cost, on pictures of train that it had not seen. No outcome of a question that is judged
  enters the choice.
- `hard to a plain model`: the quarter with the highest loss of that model itself. It is wrong there more often than a
  coin would be, so that a model which merely knows less does better; read it with that in mind.
- `hard to either model`: the same by two models of that seed: one after a plain second round, one after the last arm's.
- `hard by the tables`: the quarter of the highest difficulty that the set states without any model. Surprising answers
  are in it by choice, so that a blind model's coin decides there; read it for the thumbnail model only.

Differences to `plain` are paired by question. Their intervals come from a bootstrap over seeds and, within, over
pictures (95 %). Settings are chosen on `--split val` and reported on `test`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from thumbnails import Model, Questions, begin, read_questions, thumbnails, train

from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.datagen.audit.run import audit
from fashionkit.datagen.counter import mix
from fashionkit.datagen.generate import generate
from fashionkit.datagen.hardness import Coder, measure
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.reweight import NextOptions, reweight
from fashionkit.datagen.samples import SLOTS
from fashionkit.datagen.spec import RunSpec, load_spec
from fashionkit.datagen.store import VQAStore

Array = npt.NDArray[Any]
Figures = dict[str, Any]
Arm = tuple[float, float, float]  # w4 of kinds, w4 of items, alpha of the confusability
PLAIN: Arm = (0.0, 0.0, 1.0)
ARMS = ["0/1/1", "0/0/0.5", "1.5/0/1", "1.5/0/0.5"]
ASKED = ("B2", "C1", "C2")
# What needs few words to be asked, so that a small model has enough of each.
DROP = ["B2.modified", "B2.kind_value", "C1.modified", "C2.modified", "C2.kind", "C2.exist"]
OTHER = 7000  # added to the seeds of the evaluation questions and of the models that choose the hard ones
ROUND2 = 100
EVALUATED = 3  # times the samples of a training set
RATES = (3e-3, 1.5e-3)  # of the two rounds
HARD = 0.25
RESAMPLES = 2000
SIZE = 96  # pixels of a drawn picture


@dataclass
class Bench:
    """One run of the experiment.

    Attributes:
        folder: Scratch. pictures: Thumbnails of all pictures. sizes: Of the vocabulary and the pack.
        group: (I,) what is resampled together. cpu: Seconds of training.
    """

    folder: Path
    options: argparse.Namespace
    say: Callable[[str], None]
    arms: list[Arm]
    pictures: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    sizes: tuple[int, int] = (0, 0)
    group: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    cpu: float = 0.0

    @property
    def catalog(self) -> Path:
        """The catalogue, drawn here or before."""
        return self.options.catalog or self.folder / "catalog"

    def spec(self, seed: int, out: str) -> RunSpec:
        """Settings without feedback."""
        plain = load_spec("drawn")
        return replace(
            plain,
            catalog=str(self.catalog),
            out=str(self.folder / out),
            samples=self.options.samples,
            seed=seed,
            workers=1,
            families={family: float(family in ASKED) for family in FAMILIES},
            drop=DROP,
            negatives=replace(plain.negatives, draws=1),  # else all values are drawn, likely or not
            balance=replace(plain.balance, family_cap=0.5),
            entail=[],
        )

    def fit(self, start: Model, questions: Questions, seed: int, second: bool) -> Model:
        """The model after a round of training."""
        began, o = time.process_time(), self.options
        epochs, rate = (o.epochs2, RATES[1]) if second and not o.scratch else (o.epochs, RATES[0])
        model = train(start, questions, self.pictures, seed, epochs, rate)
        self.cpu += time.process_time() - began
        return model


@dataclass
class Rounds:
    """What one seed gives: the losses of round 1, its model, and the model of each arm after round 2."""

    first: Path
    losses: Path
    models: dict[Arm, Model]
    sets: dict[Arm, Path]


def prepare(bench: Bench) -> Path:
    """Draws the catalogue and makes the evaluation questions; returns their folder."""
    o = bench.options
    if o.catalog is None:
        bench.say(f"drawing {o.images:,} outfits")
        draw_catalog(bench.catalog, DrawOptions(o.images, size=SIZE, workers=o.workers))
    path = made(replace(bench.spec(OTHER, "evaluation"), samples=EVALUATED * o.samples))
    store = VQAStore(path)
    bench.pictures = thumbnails(bench.catalog, store.image_ids)
    bench.sizes = (len(store.vocab), len(store.pack.templates))
    bench.group = pq.read_table(path / "images" / "part-00000.parquet")["group"].to_numpy()
    return path


def made(spec: RunSpec) -> Path:
    """The question set of a spec, which may be there already."""
    generate(spec)
    return Path(spec.out)


def rounds(bench: Bench, seed: int, blind: bool, arms: list[Arm]) -> Rounds:
    """Both rounds of one seed."""
    who = f"{'blind' if blind else 'thumbnail'}-{seed}"
    first = made(bench.spec(seed, f"first-{seed}"))
    questions = read_questions(first, "train")
    fresh = begin(questions, bench.sizes, seed, blind)
    losses = cross_fitted(bench, questions, fresh, seed, bench.folder / f"{who}.parquet")
    start = fresh if bench.options.scratch else bench.fit(fresh, questions, seed, False)
    found = Rounds(first, losses, {}, {})
    for arm in [PLAIN, *arms]:
        found.sets[arm] = second_set(bench, first, losses, seed, arm, who)
        learnt = read_questions(found.sets[arm], "train")
        found.models[arm] = bench.fit(start, learnt, seed + ROUND2, True)
        bench.say(f"{who}: {called(arm)}: {len(learnt):,} samples")
    return found


def cross_fitted(bench: Bench, questions: Questions, fresh: Model, seed: int, out: Path) -> Path:
    """Losses and answers of models that were trained on the other half of the pictures."""
    half = (mix(seed, np.arange(len(bench.group))) & np.uint64(1))[questions.image]
    loss, answered = np.zeros(len(questions)), np.zeros(len(questions), np.int64)
    for side in (0, 1):
        model = bench.fit(fresh, questions.take(half != side), seed, False)
        loss[half == side], answered[half == side] = model.judge(questions.take(half == side), bench.pictures)
    pq.write_table(pa.table({"qid": questions.qid, "loss": loss, "predicted": answered}), out)
    return out


def second_set(bench: Bench, first: Path, losses: Path, seed: int, arm: Arm, who: str) -> Path:
    """The question set of round 2."""
    if arm == PLAIN:
        return made(bench.spec(seed + ROUND2, f"plain-{seed}"))
    out = bench.folder / "-".join([who, *(f"{part:g}" for part in arm)])
    report = reweight(first, losses, out / "next", NextOptions(*arm, seed + ROUND2))
    bench.say("; ".join(line.strip() for line in report.lines()[:2]))
    places = {"catalog": str(bench.catalog), "out": str(out / "set")}
    return made(load_spec(str(out / "next" / "spec.yaml"), workers=1, **places))


def hard_sets(bench: Bench, path: Path, questions: Questions, blind: bool) -> dict[str, Array]:
    """Name → (n,) bool: the hardest quarter of the questions, by several judges."""
    arm = bench.arms[-1]
    other = rounds(bench, OTHER + 1, blind, [arm])
    plain, treated = (other.models[a].judge(questions, bench.pictures)[0] for a in (PLAIN, arm))
    return {
        "all": np.ones(len(questions), bool),
        "hard kinds": hardest(kind_losses(other, path, questions)),
        "hard to a plain model": hardest(plain),
        "hard to either model": hardest((plain + treated) / 2),
        "hard by the tables": hardest(questions.difficulty.astype(np.float64)),
    }


def kind_losses(other: Rounds, path: Path, questions: Questions) -> Array:
    """(n,) what another seed's losses on train say of the cells of questions, beyond their template and attributes."""
    table = pq.read_table(other.losses)
    columns = [table[name].to_numpy() for name in ("qid", "loss", "predicted")]
    kinds = measure(VQAStore(other.first), *columns).kinds
    effect = kinds.shrunk_means()
    coder = Coder(VQAStore(path))
    part = {"template": questions.code[:, 0], "answer": questions.answer}
    part |= {f"slot{i}": questions.code[:, 1 + i] for i in range(SLOTS)}
    cell = coder.codes(part, coder.slots(part))[1]
    at = np.minimum(np.searchsorted(kinds.code, cell), len(effect) - 1)
    return np.where(kinds.code[at] == cell, effect[at], effect.mean())


def hardest(score: Array) -> Array:
    """(n,) bool: the quarter with the highest score."""
    found = np.zeros(len(score), bool)
    found[np.argsort(-score, kind="stable")[: int(HARD * len(score))]] = True
    return found


def interval(difference: Array, group: Array, rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of the mean: seeds are drawn again, and within them groups of questions.

    Args:
        difference: (seeds, n) of right answers, -1, 0 or 1. group: (n,) what belongs together.
    """
    _, at = np.unique(group, return_inverse=True)
    sums = np.stack([np.bincount(at, row) for row in difference])  # seeds, groups
    sizes = np.bincount(at).astype(np.float64)
    means = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        seeds = rng.integers(0, len(sums), len(sums))
        times = np.bincount(rng.integers(0, len(sizes), len(sizes)), minlength=len(sizes))
        means[number] = (sums[seeds] @ times).mean() / (sizes @ times)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def compare(bench: Bench, path: Path, blind: bool) -> list[Figures]:
    """Rows of the table of one model."""
    questions = read_questions(path, bench.options.split)
    right: dict[Arm, list[Array]] = {arm: [] for arm in [PLAIN, *bench.arms]}
    for seed in range(bench.options.seeds):
        for arm, model in rounds(bench, seed, blind, bench.arms).models.items():
            right[arm].append(model.judge(questions, bench.pictures)[1] == questions.answer)
    rows, rng = [], np.random.default_rng(0)
    for name, chosen in hard_sets(bench, path, questions, blind).items():
        base = np.stack(right[PLAIN])[:, chosen]
        for arm, outcomes in right.items():
            mine = np.stack(outcomes)[:, chosen]
            row = {"model": "blind" if blind else "thumbnail", "judged on": name, "n": int(chosen.sum())}
            row |= {"arm": called(arm), "accuracy": round(float(mine.mean()), 4)}
            if arm != PLAIN:
                difference = mine.astype(np.int8) - base.astype(np.int8)
                low, high = interval(difference, bench.group[questions.image[chosen]], rng)
                row |= {"gain": round(float(difference.mean()), 4), "low": round(low, 4), "high": round(high, 4)}
                row["by seed"] = [round(float(d.mean()), 4) for d in difference]
            rows.append(row)
    return rows


def gate(bench: Bench) -> list[Figures]:
    """Verdicts of the exact checks of the bias gate on the second rounds of seed 0."""
    rows = []
    for path in [bench.folder / "plain-0", *sorted(bench.folder.glob("*-0-*-*-*/set"))]:
        found = audit(str(path), str(bench.catalog), None, False, 1, 0, lambda line: None)
        failed = sorted({v.check for v in found.verdicts if v.verdict == "fail"})
        name = path.name if path.name != "set" else path.parent.name
        rows.append({"set": name, "verdicts": len(found.verdicts), "failed": failed})
    return rows


def arm_of(text: str) -> Arm:
    """`w4/w4 of items/alpha` as numbers."""
    loss, item_loss, alpha = map(float, text.split("/"))
    return loss, item_loss, alpha


def called(arm: Arm) -> str:
    """What the table calls an arm."""
    words = {"loss": arm[0], "item_loss": arm[1], "alpha": arm[2]}
    named = [f"{name} {value:g}" for name, value in words.items() if value != (name == "alpha")]
    return ", ".join(named) or "plain"


def lines(figures: Figures) -> list[str]:
    """The table as Markdown."""
    o = figures["options"]
    epochs = f"{o['epochs']} epochs from scratch" if o["scratch"] else f"{o['epochs']} epochs, then {o['epochs2']}"
    about = (
        f"{o['images']:,} pictures, {o['samples']:,} samples a set, {epochs}, {o['seeds']} seeds, judged on "
        f"{o['split']}; training took {figures['training_cpu_seconds']:,.0f} s of processor time."
    )
    found = [about, "", "| model | judged on | n | arm | right | gain | 95 % |", "|---|---|---|---|---|---|---|"]
    for row in figures["rows"]:
        gain = " | "
        if "gain" in row:
            gain = f"{100 * row['gain']:+.2f} | {100 * row['low']:+.2f} to {100 * row['high']:+.2f}"
        cells = f"{row['model']} | {row['judged on']} | {row['n']:,} | {row['arm']} | {100 * row['accuracy']:.2f} %"
        found.append(f"| {cells} | {gain} |")
    found += ["", "| set of seed 0 | verdicts of the gate | failed |", "|---|---|---|"]
    found += [f"| {row['set']} | {row['verdicts']} | {', '.join(row['failed']) or 'none'} |" for row in figures["gate"]]
    return found


def measured(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> Figures:
    """All figures."""
    bench = Bench(folder, options, say, [arm_of(text) for text in options.arms])
    path, rows = prepare(bench), []
    for blind in {"thumbnail": (False,), "blind": (True,), "both": (False, True)}[options.models]:
        rows += compare(bench, path, blind)
    options.images = len(bench.group)
    kept = ("images", "samples", "epochs", "epochs2", "scratch", "seeds", "split")
    figures: Figures = {"options": {name: getattr(options, name) for name in kept}, "rows": rows, "gate": gate(bench)}
    return figures | {"training_cpu_seconds": round(bench.cpu, 1)}


def main() -> None:
    """Runs the experiment and prints its table."""
    parser = argparse.ArgumentParser(description="What a second round gains by what the first one found hard.")
    parser.add_argument("--images", type=int, default=6000, help="pictures of the catalogue (default: %(default)s)")
    parser.add_argument("--catalog", type=Path, help="a catalogue with pictures, in place of drawing one")
    parser.add_argument("--samples", type=int, default=150_000, help="samples of a set (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="of round 1 (default: %(default)s)")
    parser.add_argument("--epochs2", type=int, default=4, help="of round 2 (default: %(default)s)")
    parser.add_argument("--scratch", action="store_true", help="round 2 starts from nothing, with as many epochs")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of everything (default: %(default)s)")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="judged on (default: %(default)s)")
    parser.add_argument("--models", choices=("thumbnail", "blind", "both"), default="both", help="(default: both)")
    parser.add_argument(
        "--arms", nargs="+", default=ARMS, help="loss/item_loss/alpha of each; the last one is judged by"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that draw (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(options, Path(folder), lambda line: print(f"... {line}", file=sys.stderr, flush=True))
    print("\n".join(lines(figures)))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text("\n".join(lines(figures)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
