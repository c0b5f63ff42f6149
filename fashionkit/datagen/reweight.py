"""`datagen reweight`: from a model's losses on a question set to the settings of the next one.

    losses (qid, loss, predicted?) ──► checked ──► `hardness` ──► OUT/feedback/  cells, images, items, confusion
      or (answer, predicted, count)       └► OUT/feedback/rejects
    settings of the set ──► OUT/spec.yaml: the next seed, w4 of the difficulty, alpha of the wrong answers

A sample of the next set is another question, so only what it shares with those of this set can be learnt: how hard
its kind of question is, its picture and its item, and which answer is given for which. Losses of
pictures outside `train` are left out: what a model gets wrong on the test must not decide what it is trained on.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from fashionkit import recipes
from fashionkit.datagen.effects import Groups
from fashionkit.datagen.feedback import CELLS, CONFUSION, IMAGES, ITEMS, KIND, SCHEMA
from fashionkit.datagen.hardness import Coder, Hardness, measure
from fashionkit.datagen.packs import Template
from fashionkit.datagen.spec import RunSpec, load_spec
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import (
    InputError,
    Manifest,
    part_path,
    sha256_file,
    sweep_temporary,
    write_manifest,
    write_table,
    write_text,
)

Array = npt.NDArray[Any]
Tables = dict[str, pa.Table]
SET_KEY = b"fashionkit.set"  # of a losses file's metadata: content hash of the set that they are of
LARGEST = 1e6  # of a loss
REJECTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # of the losses, from 1
        pa.field("reason", pa.string(), nullable=False),
    ]
)
LOSSES, MATRIX = ("qid", "loss"), ("answer", "predicted", "count")
SHOWN = 5


@dataclass(frozen=True)
class NextOptions:
    """What the next round does with the feedback.

    Attributes:
        loss: w4 for kinds of questions: how much more of the set the hard ones have.
        item_loss: w4 for pictures and items: how strongly a cell prefers the hard ones.
        alpha: Share of the similarity in the confusability.
        seed: Of the next round; null: one more than that of the set.
    """

    loss: float = 1.5
    item_loss: float = 0.0
    alpha: float = 0.5
    seed: int | None = None


@dataclass
class Rows:
    """Rows of a file, of which those that cannot be used are taken out with a reason.

    Attributes:
        columns: Name → (n,). row: (n,) position in the file. rejects: Positions and why.
    """

    columns: dict[str, Array]
    row: Array
    rejects: list[tuple[Array, str]] = field(default_factory=list)

    def keep(self, good: Array, reason: str) -> None:
        """Goes on with the rows that are `good`."""
        if not good.all():
            self.rejects.append((self.row[~good], reason))
            self.row = self.row[good]
            self.columns = {name: column[good] for name, column in self.columns.items()}

    @property
    def rejected(self) -> dict[str, int]:
        """Reason → rows."""
        return {reason: len(rows) for rows, reason in self.rejects}

    def table(self) -> pa.Table:
        """The rejects as a table, by row."""
        rows = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in self.rejects)]) + 1
        reasons = np.repeat([reason for _, reason in self.rejects], [len(rows) for rows, _ in self.rejects])
        table = pa.Table.from_arrays([pa.array(rows), pa.array(reasons.tolist(), pa.string())], schema=REJECTS)
        return table.sort_by("row")


@dataclass
class ReweightReport:
    """What was learnt, for people and for `--json`.

    Attributes:
        used: Rows. rejected: Reason → rows. explained: Step → share of the losses' variance.
        confused: The most frequent wrong answers of one value each.
    """

    out: str
    used: int
    rejected: dict[str, int]
    explained: dict[str, float]
    confused: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """The report for `--json`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def lines(self) -> list[str]:
        """The report as text."""
        found = [f"{self.out}: {self.used:,} rows used, {sum(self.rejected.values()):,} rejected"]
        found += [f"  rejected, {reason}: {count:,}" for reason, count in self.rejected.items()]
        if self.explained:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in self.explained.items())
            found.append(f"  variance of the losses explained by {shares}")
        for c in self.confused:
            found.append(f"  {c['answer']}, told as {c['predicted']}: {c['share']:.0%} of {c['n']:,}")
        return found


def reweight(path: str | Path, losses: str | Path, out: str | Path, options: NextOptions) -> ReweightReport:
    """Writes the feedback and the spec of the next round.

    Args:
        path: Question set. out: Folder to make. options: See there.
        losses: Parquet file with the columns `qid` and `loss`, and `predicted` where the model's answers are known; or
            with `answer`, `predicted` and `count`. Answers are ids of the set's vocabulary.

    Raises:
        InputError: Not a question set, a damaged file, columns missing or of another type, another set's losses, no row
            that can be used, or `out` holds something.
    """
    store, out, source = VQAStore(path), Path(out), Path(losses)
    _check_options(options)
    _check_out(out)
    table = _read(source, store)
    rows = (checked_losses if "qid" in table.column_names else checked_matrix)(table, store)
    used = len(rows.row)
    if not used:
        found = ", ".join(f"{reason}: {count:,}" for reason, count in rows.rejected.items())
        raise InputError("no row of the file can be used", file=source, found=found or "no rows")
    if "qid" in rows.columns:
        hardness = measure(store, *(rows.columns[name] for name in ("qid", "loss", "predicted")))
        tables, params, explained = _hard_tables(store, hardness)
        confused = hardness.confused
    else:
        tables, params, explained = {}, {"shrink": {}, "spread": {}}, {}
        confused = np.stack([rows.columns[name] for name in MATRIX], 1)
    tables |= {"confusion": _keyed(store, confused), "rejects": rows.table()}
    _write(store, out / "feedback", tables, params, sha256_file(source), used)
    _next_spec(store, out, options, "cells" in tables, len(confused) > 0)
    return ReweightReport(str(out), used, rows.rejected, explained, most_confused(tables["confusion"]))


def _check_options(options: NextOptions) -> None:
    for name in ("loss", "item_loss"):
        if not -100 <= getattr(options, name) <= 100:
            raise InputError("must be from -100 to 100", column=name, found=getattr(options, name))
    if not 0 <= options.alpha <= 1:
        raise InputError("must be from 0 to 1", column="alpha", found=options.alpha)


def _check_out(out: Path) -> None:
    """A run that was stopped left `feedback` and `packs` at most: the spec is written last."""
    if out.exists() and not (out.is_dir() and {p.name for p in out.iterdir()} <= {"feedback", "packs"}):
        raise InputError("this is there already", file=out, hint="name another --out, or remove it")
    if out.exists():
        sweep_temporary(out)


def _read(source: Path, store: VQAStore) -> pa.Table:
    if not source.is_file():
        raise InputError("no such file", file=source)
    try:
        with pq.ParquetFile(source) as file:
            schema = file.schema_arrow
            wanted = MATRIX if "qid" not in schema.names and "count" in schema.names else LOSSES
            missing = [name for name in wanted if name not in schema.names]
            if missing:
                hint = "losses have `qid`, `loss` and, if known, `predicted`; a matrix `answer`, `predicted`, `count`"
                problem = f"the file has no column {missing[0]!r}"
                raise InputError(problem, file=source, found=", ".join(schema.names), hint=hint)
            predicted = ["predicted"] if wanted == LOSSES and "predicted" in schema.names else []
            table = file.read([*wanted, *predicted])
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"the file is damaged or not Parquet: {error}", file=source) from error
    for name in table.column_names:
        kind = table[name].type
        if not (pa.types.is_integer(kind) or (name == "loss" and pa.types.is_floating(kind))):
            needed = "a number" if name == "loss" else "a whole number"
            raise InputError(f"{needed} is needed here", file=source, column=name, found=str(kind))
    of = (schema.metadata or {}).get(SET_KEY, b"").decode(errors="replace")
    if of not in ("", store.manifest.content_hash()):
        raise InputError("these are the losses of another question set", file=source, found=of)
    return table


def _column(table: pa.Table, name: str, kind: pa.DataType, missing: float) -> Array:
    column: Array = pc.fill_null(pc.cast(table[name], kind, safe=False), pa.scalar(missing, kind)).to_numpy()
    return column


def checked_losses(table: pa.Table, store: VQAStore) -> Rows:
    """The rows of per-sample losses that can be used, by qid: columns qid, loss, predicted (-1 where not known)."""
    columns = {"qid": _column(table, "qid", pa.int64(), -1), "loss": _column(table, "loss", pa.float64(), np.nan)}
    columns["predicted"] = np.full(table.num_rows, -1)
    if "predicted" in table.column_names:
        columns["predicted"] = _column(table, "predicted", pa.int64(), -1)
    rows = Rows(columns, np.arange(table.num_rows))
    rows.keep((rows.columns["qid"] >= 0) & (rows.columns["qid"] < len(store)), "no such qid in the set")
    rows.keep(np.abs(rows.columns["loss"]) <= LARGEST, f"the loss is no number, or beyond {LARGEST:,.0f}")  # nor NaN
    told = rows.columns["predicted"]
    rows.keep((told >= -1) & (told < len(store.vocab)), "the predicted answer is not in the vocabulary")
    _, group, times = np.unique(rows.columns["qid"], return_inverse=True, return_counts=True)
    rows.keep(times[group] == 1, "the qid stands more than once")
    rows.keep(rows.columns["qid"] < store.manifest.counts["splits"]["train"], "not of the split train")
    order = np.argsort(rows.columns["qid"])
    rows.row, rows.columns = rows.row[order], {name: column[order] for name, column in rows.columns.items()}
    return rows


def checked_matrix(table: pa.Table, store: VQAStore) -> Rows:
    """The rows of a confusion matrix that can be used; equal pairs add up."""
    domain = Coder(store).domain
    rows = Rows({name: _column(table, name, pa.int64(), -1) for name in MATRIX}, np.arange(table.num_rows))
    for name, called in (("answer", "right"), ("predicted", "predicted")):
        known = (rows.columns[name] >= 0) & (rows.columns[name] < len(domain))
        rows.keep(known, f"the {called} answer is not in the vocabulary")
    rows.keep((rows.columns["count"] >= 0) & (rows.columns["count"] <= 10**12), "the count is not from 0 to 10^12")
    one, two = domain[rows.columns["answer"]], domain[rows.columns["predicted"]]
    rows.keep((one == two) & (one > 0), "not two values of one attribute, nor two categories")
    return rows


def _hard_tables(store: VQAStore, hardness: Hardness) -> tuple[Tables, dict[str, Any], dict[str, float]]:
    ids, size = np.array(store.image_ids), len(store.vocab)
    pictures, items = hardness.pictures, hardness.items
    keys = np.array(store.vocab.key)[items.code % size]
    columns = {"image_id": ids[items.code // size], "category": keys, **_excess(items)}
    tables = {
        "cells": _cell_table(store, hardness),
        "images": pa.table({"image_id": ids[pictures.code], **_excess(pictures)}, schema=IMAGES),
        "items": pa.table(columns, schema=ITEMS),
    }
    levels = {"cells": hardness.kinds, "images": pictures, "items": items}
    shrink = {name: groups.shrink() for name, groups in levels.items()}
    spread = {name: groups.variances()[1] ** 0.5 for name, groups in levels.items()}
    return tables, {"shrink": shrink, "spread": spread}, hardness.explained


def _cell_table(store: VQAStore, hardness: Hardness) -> pa.Table:
    """Cells by the keys of their words; those of one template are worked out together."""
    keys, cells, parts = np.array(store.vocab.key, dtype=object), hardness.cells, []
    excess = _excess(hardness.kinds)
    for number in np.unique(cells.template).tolist():
        t, names = store.pack.templates[number], store.slots[number]
        rows = np.flatnonzero(cells.template == number)
        slots = keys[cells.slots[rows][:, [names.index(name) for name in t.cell]]]
        columns = {
            "template": pa.array([t.id] * len(rows)),
            "attributes": _attributes(store, t, names, cells.slots[rows]),
            "slots": pa.array(slots.tolist(), pa.list_(pa.string())),
            **{name: column[rows] for name, column in excess.items()},
        }
        parts.append(pa.table(columns, schema=CELLS))
    return pa.concat_tables(parts).sort_by([("template", "ascending"), ("attributes", "ascending")])


def _attributes(store: VQAStore, t: Template, names: list[str], slots: Array) -> pa.Array:
    """The attributes of each row's unit: stored, or that of the value that implies it."""
    found = []
    for attribute in (slot.name for slot in t.attribute_slots):
        by = attribute if attribute in names else next(s.name for s in t.slots if s.of == attribute)
        key = pa.array(store.vocab.key, pa.string()).take(pa.array(slots[:, names.index(by)]))
        found.append(pc.replace_substring_regex(key, "/.*", ""))
    return pc.binary_join_element_wise(*found, ",") if found else pa.array([""] * len(slots))


def _excess(groups: Groups) -> dict[str, Array]:
    centre = groups.total.sum() / max(groups.n.sum(), 1)
    return {"n": groups.n.astype(np.int64), "excess": groups.total / groups.n - centre}


def _keyed(store: VQAStore, confused: Array) -> pa.Table:
    """Counts by keys, each pair once."""
    code, group = np.unique(confused[:, 0] * len(store.vocab) + confused[:, 1], return_inverse=True)
    count = np.zeros(len(code), np.int64)
    np.add.at(count, group, confused[:, 2])
    keys = np.array(store.vocab.key, dtype=object)
    columns = {"answer": keys[code // len(store.vocab)], "predicted": keys[code % len(store.vocab)], "count": count}
    return pa.table({name: pa.array(c, CONFUSION.field(name).type) for name, c in columns.items()}, schema=CONFUSION)


def most_confused(table: pa.Table) -> list[dict[str, Any]]:
    """The wrong answers that are given most often, with their share of all answers to the same."""
    totals: dict[str, int] = {}
    rows = table.to_pylist()
    for row in rows:
        totals[row["answer"]] = totals.get(row["answer"], 0) + row["count"]
    wrong = sorted((r for r in rows if r["answer"] != r["predicted"] and r["count"]), key=lambda r: -r["count"])
    shown = [(row, totals[row["answer"]]) for row in wrong[:SHOWN]]
    return [{"answer": r["answer"], "predicted": r["predicted"], "share": r["count"] / n, "n": n} for r, n in shown]


def _write(store: VQAStore, folder: Path, tables: Tables, params: dict[str, Any], losses: str, used: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    for name, table in tables.items():
        if table.num_rows:
            write_table(part_path(folder, name, 0), table)
    manifest = Manifest(KIND, SCHEMA, params=params)
    manifest.counts = {"used": used, **{name: table.num_rows for name, table in tables.items()}}
    manifest.inputs = {"questions": store.manifest.content_hash(), "losses": losses}
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, manifest)


def _next_spec(store: VQAStore, out: Path, options: NextOptions, losses: bool, confusion: bool) -> None:
    """Writes the settings of the set with what is new; the packs are those of the set, whatever became of them."""
    params = store.manifest.params
    data = {f.name: params[f.name] for f in fields(RunSpec) if f.name in params}
    data = {"packs": _packs(store, out), **data, "feedback": "feedback"}
    data["seed"] = options.seed if options.seed is not None else int(params.get("seed", 0)) + 1
    weights = {"loss": options.loss, "item_loss": options.item_loss} if losses else {"loss": 0.0, "item_loss": 0.0}
    data["difficulty"] = {**data.get("difficulty", {}), **weights}
    data["negatives"] = {**data.get("negatives", {}), "alpha": options.alpha if confusion else 1.0}
    head = (
        f"# The round after {store.path.name}, seed {params.get('seed', 0)}: hard questions by the losses of a model.\n"
        f"#   fashionkit datagen run {out.name}/spec.yaml --catalog CATALOG --out OUT\n"
    )
    text = head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    write_text(out / "spec.yaml", text)
    load_spec(str(out / "spec.yaml"))


def _packs(store: VQAStore, out: Path) -> list[str]:
    """Names of shipped packs that are still the same; the others are copied beside the spec."""
    names = []
    for path in sorted((store.path / "packs").glob("*.yaml")):
        name = path.stem.split("-", 1)[1]
        shipped = recipes.root() / "datagen" / "packs" / f"{name}.yaml"
        if shipped.is_file() and shipped.read_bytes() == path.read_bytes():
            names.append(name)
        else:
            write_text(out / "packs" / path.name, path.read_text(encoding="utf-8"))
            names.append(f"packs/{path.name}")
    return names
