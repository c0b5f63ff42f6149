"""`fashionkit datagen ...`: generate, look at and export question sets."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from fashionkit.cli.arguments import JsonArg, arg, write_json


@dataclass
class RunArgs(JsonArg):
    """Arguments of `fashionkit datagen run`."""

    spec: str = arg("recipe name (products, street, drawn) or YAML file; any of them takes --catalog")
    catalog: str | None = arg("catalogue folder; overrides the spec", default=None)
    out: str | None = arg("folder to write; overrides the spec", default=None)
    samples: int | None = arg(
        "how many samples, the split `paraphrase` apart; without it, as many as balance allows", default=None
    )
    seed: int | None = arg("seed of all random choices", default=None)
    workers: int | None = arg("processes; the result is the same for any number", default=None)
    engine: Literal["local", "ray"] | None = arg(
        "what runs the shards: processes of this machine, or a Ray cluster (needs fashionkit[ray])", default=None
    )
    ray_address: str | None = arg(
        "running cluster: host:port, or auto for that of this machine; without it Ray is started here", default=None
    )


def run(args: RunArgs) -> None:
    """Generates a question set from a catalogue.

    Every question is a program that is run on the catalogue's tables; yes and no, and the two sides of every choice,
    are equally many. Prints what was made, and which question families the catalogue cannot carry, with the reason.
    Stopped or killed, the same command continues; the result is the same bytes in any case, with any engine.
    On a Ray cluster all nodes must see --out under the same name; each of their CPUs is a worker.

    Example:
        fashionkit datagen run drawn --catalog out/drawn --out out/questions --samples 100000
    """
    from fashionkit.datagen.generate import generate
    from fashionkit.datagen.spec import load_spec
    from fashionkit.tables import InputError

    names = ("catalog", "out", "samples", "seed", "workers", "engine", "ray_address")
    spec = load_spec(args.spec, **{name: getattr(args, name) for name in names})
    for name in ("catalog", "out"):
        if not getattr(spec, name):
            raise InputError(f"the spec names no {name}", hint=f"give --{name} FOLDER")
    report = generate(spec, say=lambda line: print(line, file=sys.stderr))
    print("\n".join(report.lines()))
    print(f"look at it: fashionkit datagen show {report.out} --html {report.out}.html --catalog {spec.catalog}")
    write_json(args.json, report.to_dict())


@dataclass
class ShowArgs:
    """Arguments of `fashionkit datagen show`."""

    path: str = arg("question set")
    n: int = arg("samples", default=20)
    family: str | None = arg("only this question family, e.g. C2", default=None)
    split: str | None = arg("only this split", default=None)
    seed: int = arg("another seed shows other samples", default=0)
    html: str | None = arg("write a page of pictures with their questions to this file", default=None)
    catalog: str | None = arg("catalogue with the pictures, if it is not where it was", default=None)


def show(args: ShowArgs) -> None:
    """Shows samples of a question set, evenly over its families.

    Example:
        fashionkit datagen show out/questions --n 20 --family C2 --html page.html
    """
    from fashionkit.datagen.show import page, sample_lines
    from fashionkit.datagen.store import VQAStore
    from fashionkit.tables import InputError, write_text

    store = VQAStore(args.path)
    rows = store.sample(args.n, args.family, args.split, args.seed)
    if not rows:
        raise InputError("no such samples in this set", file=args.path, found=args.family or args.split)
    if args.html is not None:
        from pathlib import Path

        write_text(Path(args.html), page(store, rows, args.catalog))
    print("\n".join(sample_lines(rows)))
    if args.html is not None:
        print(f"wrote {args.html}")


@dataclass
class ExportArgs(JsonArg):
    """Arguments of `fashionkit datagen export`."""

    path: str = arg("question set")
    out: str = arg("folder to write")
    format: Literal["parquet", "llava", "jsonl", "webdataset"] = arg(
        "parquet: text columns; llava: conversations a picture; jsonl: a line a sample; webdataset: tar shards",
        default="parquet",
    )
    splits: list[str] = arg("splits to export; all without it", default=())
    catalog: str | None = arg(
        "catalogue with the pictures; their file names go into the export, and into webdataset they themselves",
        default=None,
    )
    shard_mb: int = arg("about how many MiB a shard of webdataset has", default=256)
    workers: int = arg("processes; the result is the same for any number", default=1)


def export(args: ExportArgs) -> None:
    """Writes a question set as text for other tools.

    The Parquet export loads with Hugging Face `datasets` offline; llava is the conversation list of LLaVA; webdataset
    is a folder of tar files for each split, in which each picture stands beside a JSON file of its questions. Stopped
    or killed, the same command continues.

    Example:
        fashionkit datagen export out/questions out/text --format jsonl
    """
    from fashionkit.datagen.export import export_set

    counts = export_set(
        args.path, args.out, args.format, args.splits, args.catalog, workers=args.workers, shard_mb=args.shard_mb
    )
    print(f"{args.out}: " + ", ".join(f"{split} {count:,}" for split, count in counts.items()))
    write_json(args.json, {"out": args.out, "format": args.format, "samples": counts})


@dataclass
class AuditArgs(JsonArg):
    """Arguments of `fashionkit datagen audit`."""

    path: str = arg("question set")
    catalog: str | None = arg("catalogue it was made from; without it, what needs one is left out", default=None)
    spec: str | None = arg("take the thresholds of this spec in place of those saved in the set", default=None)
    no_blind: bool = arg("leave the question-only models out, which take most of the time", default=False)
    all: bool = arg("print every verdict", default=False)
    seed: int = arg("of the models' samples and first weights", default=0)
    workers: int = arg("processes of the exact checks", default=2)


def audit(args: AuditArgs) -> int:
    """Judges whether a question set can be answered without looking; exits with 1 where it can.

    Counts all samples: majority answers, yes and no by what is asked, positions and lengths of options, answers in the
    question, pictures and wordings that leak between splits, answers that the tables do not settle. Then trains models
    that see the question alone. Prints what failed, then a line a check, and writes all verdicts to PATH/audit.json.

    Example:
        fashionkit datagen audit out/questions --catalog out/drawn
    """
    from fashionkit.datagen.audit.run import audit as judge

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    found = judge(args.path, args.catalog, args.spec, not args.no_blind, args.workers, args.seed, say)
    print("\n".join(found.lines(args.all)))
    write_json(args.json, found.to_dict())
    return 0 if found.passed else 1


@dataclass
class ReportArgs(JsonArg):
    """Arguments of `fashionkit datagen report`."""

    path: str = arg("question set")
    html: str | None = arg("write the page to this file", default=None)
    catalog: str | None = arg("catalogue with the pictures; without it the page has none", default=None)
    samples: int = arg("samples with pictures and regions", default=60)
    sheet: int = arg("samples on the sheet that is checked by hand", default=200)
    verdicts: str | None = arg("the sheet's export, CSV or JSON: says how many questions are wrong", default=None)
    seed: int = arg("another seed chooses other samples, for the sheet, too", default=0)
    workers: int = arg("processes; the result is the same for any number", default=2)


def report(args: ReportArgs) -> None:
    """Reports what a question set holds; with --html as one page that needs no server and no network.

    The page shows families, answers, difficulty, what was refused, the verdicts of `datagen audit`, samples with their
    pictures and the regions they speak of, and a sheet to be checked by hand in the browser. Give the file that the
    sheet exports to --verdicts, with the same --seed and --sheet: the share of wrong questions is bounded.

    Example:
        fashionkit datagen report out/questions --catalog out/drawn --html report.html
    """
    from fashionkit.datagen.report import gather
    from fashionkit.datagen.report_page import make_report

    found = gather(args.path, args.samples, args.sheet, args.seed, args.workers)
    lines, figures = make_report(found, args.html, args.catalog, args.verdicts)
    print("\n".join(lines))
    write_json(args.json, figures)


@dataclass
class ReweightArgs(JsonArg):
    """Arguments of `fashionkit datagen reweight`."""

    path: str = arg("question set")
    out: str = arg("folder to write: spec.yaml and the feedback it names")
    losses: str = arg(
        "Parquet file of a model: `qid`, `loss` and, where known, `predicted`, the id it answered; or a confusion "
        "matrix: `answer`, `predicted`, `count`",
        required=True,
    )
    loss: float = arg("weight of the losses by kind of question: hard kinds get more of the set", default=1.5)
    item_loss: float = arg("weight of the losses by picture and item: each cell prefers the hard ones", default=0.0)
    alpha: float = arg("share of the similarity in what is confusable; the rest is the model's confusion", default=0.5)
    seed: int | None = arg("of the next round; without it, one more than that of the set", default=None)


def reweight(args: ReweightArgs) -> None:
    """Turns a model's losses on a question set into the spec of the next round, which asks what was hard.

    The next set has more of the kinds of questions whose losses were high ("is the skirt navy?"), and draws as wrong
    options what the model takes for the right ones; yes and no stay as balanced as they were. Take losses of samples
    that the model was not trained on. Only losses of the split `train` count. Rows that cannot be used are listed.

    Example:
        fashionkit datagen reweight out/questions out/round2 --losses losses.parquet
    """
    from fashionkit.datagen.reweight import NextOptions
    from fashionkit.datagen.reweight import reweight as learn

    report = learn(args.path, args.losses, args.out, NextOptions(args.loss, args.item_loss, args.alpha, args.seed))
    print("\n".join(report.lines()))
    print(f"the next round: fashionkit datagen run {args.out}/spec.yaml --catalog CATALOG --out OUT")
    write_json(args.json, report.to_dict())


@dataclass
class PacksArgs:
    """Arguments of `fashionkit datagen packs`."""

    packs: list[str] = arg("pack names or YAML files", default=("core",))


def packs(args: PacksArgs) -> None:
    """Checks template packs and lists their templates.

    Example:
        fashionkit datagen packs --packs core my_pack.yaml
    """
    from fashionkit import recipes
    from fashionkit.datagen.packs import load_packs

    pack = load_packs([recipes.find("datagen/packs", name) for name in args.packs])
    for t in pack.templates:
        print(f"{t.id:22} {t.family:3} {t.balance:9} {len(t.paraphrases)} texts  {t.program.text()}")
    print(f"{len(pack.templates)} templates, {sum(len(t.paraphrases) for t in pack.templates)} texts: all right")


VERBS = {
    "datagen run": run,
    "datagen show": show,
    "datagen export": export,
    "datagen audit": audit,
    "datagen report": report,
    "datagen reweight": reweight,
    "datagen packs": packs,
}
