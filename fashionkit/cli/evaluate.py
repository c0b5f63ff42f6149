"""`fashionkit eval …`: comparisons by recipe, and their tables; the answers of a model to questions."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from fashionkit.cli.arguments import JsonArg, arg, write_json


@dataclass
class RunArgs:
    """Arguments of `fashionkit eval run`."""

    recipe: str = arg("what to compare: a YAML of eval/ by name or path, e.g. irsn")
    out: str = arg("folder of the runs; a series that was stopped goes on in it", required=True)
    workers: int = arg("processes, of one thread each", default=1)
    catalog: str | None = arg("catalogue to run on, where the recipe needs one", default=None)
    labels: str | None = arg("table of labels by picture, where the recipe needs one", default=None)
    questions: str | None = arg("question set, where the recipe needs one", default=None)
    features: str | None = arg("folder of cached features with maps, where the recipe needs one", default=None)
    weights: str | None = arg("weights of the recipe's backbone, or the training run that made it", default=None)


def run(args: RunArgs) -> None:
    """Makes the runs of a comparison that are missing.

    Runs are kept one by one, so a long series may be stopped and started again, and `fashionkit eval table` can be
    asked at any time for what is there.

    Example:
        fashionkit eval run irsn --out out/irsn --workers 2
    """
    from fashionkit.eval.protocols import run_recipe

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    places = {name: getattr(args, name) for name in ("catalog", "labels", "questions", "features", "weights")}
    total = run_recipe(args.recipe, args.out, args.workers, say, **places)
    print(f"{args.out}: {total} runs; `fashionkit eval table {args.out}` shows them")


@dataclass
class TableArgs(JsonArg):
    """Arguments of `fashionkit eval table`."""

    runs: str = arg("folder of the runs")
    page: str | None = arg("Markdown page to put the table in; without it, it is printed", default=None)
    name: str | None = arg("of the table on the page, between whose marks it goes", default=None)
    resamples: int = arg("draws of the bootstrap", default=1000)


def table(args: TableArgs) -> None:
    """Shows the finished runs of a comparison as a table, with intervals.

    Example:
        fashionkit eval table out/irsn --page eval/README.md --name irsn
    """
    from fashionkit.eval.protocols import table_of
    from fashionkit.eval.tables import put
    from fashionkit.tables import InputError

    if (args.page is None) != (args.name is None):
        raise InputError("a page needs the name of its table, and the name a page", column="--name", found=args.name)
    text, rows = table_of(args.runs, args.resamples)
    if args.page is None or args.name is None:
        print(text)
    else:
        put(args.page, args.name, f"fashionkit eval table RUNS --page {args.page} --name {args.name}", text)
        print(f"wrote the table {args.name!r} of {args.page}")
    write_json(args.json, {"rows": rows})


@dataclass
class VqaArgs(JsonArg):
    """Arguments of `fashionkit eval vqa`."""

    path: str = arg("question set")
    model: str = arg("folder of a model that answers questions, or a training run", required=True)
    out: str = arg("folder of the answers; a run that was stopped goes on in it", required=True)
    split: str = arg(
        "whose questions: train, val, test, compositional, paraphrase, absent (of things that are not there), or "
        "entailed:SPLIT, what follows from those of a split",
        default="test",
    )
    catalog: str | None = arg("catalogue of the set: pictures to look at, and for the page", default=None)
    features: str | None = arg("cached maps, by `fashionkit features --maps`, to look at instead", default=None)
    truth: bool = arg("show the model what the catalogue says, where it was trained on that", default=False)
    human: str | None = arg(
        "CSV of people's questions, asked in place of a split's: question_id, image_id, question, answer, kind",
        default=None,
    )
    limit: int | None = arg("about so many questions, taken evenly from all pictures; without it, all", default=None)
    seed: int = arg("of that choice, and of the pictures on the page", default=0)
    ranked: bool = arg(
        "only rank the known answers; leaves the network's own words out, which take as long again", default=False
    )
    weights: str | None = arg("where the backbone's weights lie, if not where training found them", default=None)
    device: str = arg("where the model runs: cpu, cuda, cuda:1, mps", default="cpu")
    seeds: list[str] = arg("answers of the same model trained with other seeds, to be measured with it", default=())
    blind: list[str] = arg("a model that does not look, or its answers; one for each seed", default=())
    against: list[str] = arg("answers of another model to the same questions; one for each seed", default=())
    page: str | None = arg("write an HTML page with tables, plots and pictures to this file", default=None)
    resamples: int = arg("draws of the bootstrap", default=1000)


def vqa(args: VqaArgs) -> None:
    """Answers the questions of a set with a model, and measures the answers.

    Measures have intervals: whole groups of pictures are drawn again, for questions about one picture stand or fall
    together. Read them with care for what they leave out. High accuracy may be had without looking: give --blind, and
    see the gain, and `swap`, which counts a question only where it is answered rightly about two pictures with two
    answers. Accuracy hides rare kinds: the harmonic mean over families falls with the weakest one. Probabilities are
    worth as much as their calibration error says.

    The folder of answers has a row a question: the right answer, the one given, how likely, the next ones. Its
    `losses.parquet` is what `fashionkit datagen reweight` reads. --against compares with another model's folder on the
    same draws. With --split entailed:test, consistency: of what follows from right answers, how much is right, too.

    Example:
        fashionkit eval vqa out/questions --model runs/vlm --catalog out/drawn --out out/answers --page page.html
    """
    from fashionkit.eval.vqa_run import VqaRun, run_vqa

    run = VqaRun(
        args.path, args.out, args.model, args.split, args.catalog, args.features, args.limit, args.seed, args.human,
        not args.ranked, args.truth, args.weights, args.device, args.seeds, args.blind, args.against, args.page,
        args.resamples,
    )  # fmt: skip
    lines, figures = run_vqa(run, "answers")
    print("\n".join(lines))
    write_json(args.json, figures)


VERBS = {"eval run": run, "eval table": table, "eval vqa": vqa}
