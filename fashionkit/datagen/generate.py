"""`datagen run`: from a catalogue and packs to a question set, shard by shard, the same bytes however it is run.

    catalogue ─► Scenes ─► count (units) ─► solve ─► select (units) ─► write (blocks of pictures) ─► manifest

    <out>/samples/<split>/part-00000.parquet   the samples, as ids (see `SAMPLES`)
    <out>/entailed/<split>/part-00000.parquet  what follows from them (see `entail`)
    <out>/images, vocab, templates, rejects    tables that give the ids a meaning, and what was refused
    <out>/ontology.yaml, packs/*.yaml          the words

Every step leaves whole files under <out>/.work, named after a hash of everything that decides the content; a run that
was killed finds them and goes on. `.work` is removed when the manifest is written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

import fashionkit
from fashionkit import recipes
from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.schema import SPLITS
from fashionkit.datagen.context import Context, phrasings
from fashionkit.datagen.count import (
    Counted,
    clear_spools,
    count_unit,
    kept_by_block,
    read_count,
    select_unit,
    write_json,
)
from fashionkit.datagen.entail import write_entailed
from fashionkit.datagen.judge import SPLIT_NAMES
from fashionkit.datagen.packs import Pack, load_packs
from fashionkit.datagen.samples import (
    PARAPHRASE,
    SAMPLE_SPLITS,
    block_columns,
    write_samples,
)
from fashionkit.datagen.scene import load_scenes
from fashionkit.datagen.solve import Solved, set_budgets, solve
from fashionkit.datagen.spec import RunSpec
from fashionkit.datagen.targets import balance_table
from fashionkit.datagen.thin import MARGIN, probe, rates
from fashionkit.engine import engine_session, run_shards
from fashionkit.tables import (
    InputError,
    Manifest,
    describe_file,
    part_path,
    read_manifest,
    sweep_temporary,
    write_manifest,
    write_table,
)

Array = npt.NDArray[Any]
KIND, SCHEMA = "questions", 1
ATTEMPTS = 4  # at a thinning that leaves enough


@dataclass
class Job:
    """What the workers of a run need. Forked workers share it with the parent; others get a copy.

    Attributes:
        context: Catalogue, packs, settings. folder: Where the work files lie. solved: Once counting is done.
        counts: Name of the counts that hold: `recount` where pictures have budgets.
    """

    context: Context
    folder: Path
    solved: Solved | None = None
    counts: str = "count"


_job: Job | None = None


def _adopt(job: Job) -> None:
    global _job
    _job = job


def _current() -> Job:
    assert _job is not None, "a task runs where no job was adopted"
    return _job


@dataclass
class RunReport:
    """What a run made, for people and for `--json`."""

    out: str
    samples: dict[str, int]
    families: dict[str, int]
    programs: int
    notes: list[str]
    reused: bool = False
    entailed: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report for `--json`."""
        return {
            "out": self.out,
            "samples": self.samples,
            "families": self.families,
            "programs": self.programs,
            "entailed": self.entailed,
            "notes": self.notes,
        }

    def lines(self) -> list[str]:
        """The report as text."""
        total = sum(self.samples.values())
        found = [f"{self.out}: {total:,} samples, {self.programs:,} distinct (picture, question program) pairs"]
        found += ["  by split:  " + ", ".join(f"{k} {v:,}" for k, v in self.samples.items() if v)]
        whole = max(sum(self.families.values()), 1)
        found += ["  by family: " + ", ".join(f"{k} {v:,} ({v / whole:.0%})" for k, v in self.families.items() if v)]
        if any(self.entailed.values()):
            found += ["  entailed:  " + ", ".join(f"{k} {v:,}" for k, v in self.entailed.items() if v)]
        return found + [f"  {note}" for note in self.notes]


def generate(spec: RunSpec, say: Callable[[str], None] = lambda line: None) -> RunReport:
    """Makes the question set of a spec, or continues one that was interrupted.

    Args:
        spec: The settings; `catalog` and `out` are folders.
        say: Gets a line about each step.

    Raises:
        InputError: Bad catalogue, pack or spec; `out` holds something else; the engine is not there.
    """
    with engine_session(spec.engine, spec.workers, spec.ray_address, Path(spec.out), say):
        return _generate(spec, say)


def _generate(spec: RunSpec, say: Callable[[str], None]) -> RunReport:
    catalog, out = Catalog(spec.catalog), Path(spec.out)
    paths = [recipes.find("datagen/packs", name) for name in spec.packs]
    pack = load_packs(paths)
    identity = _identity(spec, catalog, paths)
    done = _finished(out, identity)
    if done is not None:
        return done
    folder = (out / ".work" / identity[:16]).absolute()  # workers of another machine stand elsewhere
    _clear_others(out, folder)
    say("compiling the catalogue")
    job = Job(Context(load_scenes(spec.catalog), pack, spec), folder)
    if not job.context.units:
        raise InputError("the catalogue carries no question family of these packs", file=spec.catalog)
    numbers = list(range(len(job.context.units)))
    counted = _count_enough(job, numbers)
    if spec.per_image is not None and set_budgets(job.context, folder, counted):
        job.counts = "recount"
        counted = _count_all(job, numbers, "recount", "counting within the pictures' budgets")
    job.solved = solve(job.context, counted)
    _steps(job, _select, numbers, "select", "selecting")
    clear_spools(folder)
    rows = _rows_by_block(job, numbers)
    if not rows.sum():
        raise InputError("no question of these packs survives its checks on this catalogue", file=spec.catalog)
    starts = np.cumsum(rows.T.reshape(-1)).reshape(rows.shape[1], rows.shape[0]).T - rows
    shards = [
        (b, starts[b].tolist()) for b in range(len(job.context.blocks)) if not (folder / f"done-{b:05d}.json").exists()
    ]
    results = run_shards(
        _write,
        shards,
        spec.workers,
        engine=spec.engine,
        initializer=_adopt,
        initargs=(job,),
        describe="writing",
        total_rows=int(rows.sum()),
        rows=int,
    )
    for _ in results:
        pass
    return _finish(job, catalog, out, paths, identity)


def _identity(spec: RunSpec, catalog: Catalog, paths: list[Path]) -> str:
    """Hash of everything that the content depends on."""
    packs = [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]
    body = [fashionkit.__version__, SCHEMA, spec.decides(), catalog.manifest.content_hash(), packs]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _finished(out: Path, identity: str) -> RunReport | None:
    """The report of a finished equal run; refuses a folder that holds something else."""
    if not out.exists():
        return None
    if (out / "manifest.json").exists():
        manifest = read_manifest(out)
        if manifest.params.get("identity") == identity:
            shutil.rmtree(out / ".work", ignore_errors=True)  # of a run that was killed just after its manifest
            counts = manifest.counts
            return _report(out, counts, ["already complete"], reused=True)
        hint = "name another --out, or remove the folder"
        raise InputError("the folder holds the result of other settings", file=out, hint=hint)
    if not (out / ".work").is_dir() and any(out.iterdir()):
        raise InputError(
            "the folder is not empty and was not made by this command", file=out, hint="name another --out"
        )
    return None


def _clear_others(out: Path, folder: Path) -> None:
    """Removes half-done work of other settings, and what a kill left half-written."""
    others = [path for path in folder.parent.glob("*") if path != folder]
    if others:  # then what lies beside `.work` is theirs, too; it goes first, so that a kill in between changes nothing
        for name in ("samples", "entailed", "packs", "images", "vocab", "templates", "rejects", "balance"):
            shutil.rmtree(out / name, ignore_errors=True)
    for other in others:
        shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    sweep_temporary(out)


def _steps(job: Job, task: Callable[[tuple[int, str]], int], numbers: list[int], name: str, label: str) -> None:
    """Runs a per-unit step for the units that are not done."""
    missing = [(n, name) for n in numbers if not any(job.folder.glob(f"{name}-{n:05d}.*"))]
    for _ in run_shards(
        task,
        missing,
        job.context.spec.workers,
        engine=job.context.spec.engine,
        initializer=_adopt,
        initargs=(job,),
        describe=label,
        total_rows=len(missing),
    ):
        pass


def _count_all(job: Job, numbers: list[int], name: str, label: str) -> list[Counted]:
    _steps(job, _count, numbers, name, label)
    return [read_count(job.context, n, job.folder, name) for n in numbers]


def _count_enough(job: Job, numbers: list[int]) -> list[Counted]:
    """Counts the share of the anchors that gives enough samples; of all of them where nothing is saved by less."""
    context, folder = job.context, job.folder
    sample = probe(context)
    if sample is None:
        return _count_all(job, numbers, "count", "counting")
    estimate = Job(sample, folder / "probe")
    estimate.folder.mkdir(exist_ok=True)
    found = _count_all(estimate, list(range(len(sample.units))), "count", "estimating")
    solved, wanted = solve(sample, found), context.spec.samples
    assert wanted is not None
    for attempt in range(ATTEMPTS):
        context.proposer.rates = rates(context, sample, solved, MARGIN * 2**attempt)
        job.counts = f"count-{attempt}"
        made = sum(solve(context, _count_all(job, numbers, job.counts, "counting")).targets.values())
        if made >= 0.999 * wanted or not context.proposer.rates:
            break
    return [read_count(context, n, folder, job.counts) for n in numbers]


def _count(step: tuple[int, str]) -> int:
    job = _current()
    return count_unit(job.context, step[0], job.folder, step[1])


def _select(step: tuple[int, str]) -> int:
    job = _current()
    assert job.solved is not None
    return select_unit(job.context, step[0], job.folder, job.solved.cells[step[0]], job.counts)


def _rows_by_block(job: Job, numbers: list[int]) -> Array:
    """(blocks, 5) rows that each block writes for each split; qids follow split by split, block by block."""
    context = job.context
    rows = np.zeros((len(context.blocks), len(SAMPLE_SPLITS)), np.int64)
    times, test = phrasings(context), SPLIT_NAMES.index("test")
    for number in numbers:
        kept = kept_by_block(job.folder, number)
        rows[:, : len(SPLIT_NAMES)] += kept * times[context.units[number].template]
        rows[:, -1] += kept[:, test]
    return rows


def _write(shard: tuple[int, list[int]]) -> int:
    """Writes the samples of one block of pictures: a file a split; returns how many samples."""
    job = _current()
    assert job.solved is not None
    block, starts = shard
    context, out = job.context, job.folder.parent.parent
    columns = block_columns(context, job.folder, block)
    files, families, rows, programs = {}, Counter[str](), {}, 0
    follow: dict[str, Any] = {"rows": {}, "refused": {}}
    for number, name in enumerate(SAMPLE_SPLITS):
        source = SPLIT_NAMES.index("test") if name == PARAPHRASE else number
        chosen = np.flatnonzero(columns["split"] == source)
        if not len(chosen):
            continue
        path = part_path(out, f"samples/{name}", block)
        counts = write_samples(context, path, columns, chosen, starts[number])
        files[path.relative_to(out).as_posix()] = describe_file(path)
        rows[name] = int(counts.sum())
        if name != PARAPHRASE:
            programs += len(chosen)
            for t, count in zip(context.pack.templates, counts.tolist(), strict=True):
                families[t.family] += count
        if name in context.spec.entail:
            path = part_path(out, f"entailed/{name}", block)
            follow["rows"][name], follow["refused"][name] = write_entailed(
                context, path, columns, chosen, starts[number]
            )
            if follow["rows"][name]:
                files[path.relative_to(out).as_posix()] = describe_file(path)
    write_json(
        job.folder / f"done-{block:05d}.json",
        {"files": files, "families": families, "rows": rows, "programs": programs, "follow": follow},
    )
    return sum(rows.values())


def _finish(job: Job, catalog: Catalog, out: Path, paths: list[Path], identity: str) -> RunReport:
    """Writes the tables beside the samples, and the manifest."""
    context, solved = job.context, job.solved
    assert solved is not None
    s = context.scenes
    done = [json.loads((job.folder / f"done-{b:05d}.json").read_text()) for b in range(len(context.blocks))]
    known = {name: entry for d in done for name, entry in d["files"].items()}
    shutil.copyfile(catalog.path / "ontology.yaml", out / "ontology.yaml")
    (out / "packs").mkdir(exist_ok=True)
    for number, path in enumerate(paths):
        shutil.copyfile(path, out / "packs" / f"{number:02d}-{path.name}")
    images = {"image": pa.array(range(len(s.image_ids)), pa.int32()), "image_id": s.image_ids}
    names = np.array(SPLITS)[s.split].tolist()
    write_table(
        part_path(out, "images", 0), pa.table({**images, "split": names, "group": pa.array(s.group, pa.int32())})
    )
    write_table(part_path(out, "vocab", 0), s.vocab.table())
    write_table(part_path(out, "templates", 0), _template_table(context.pack))
    for template, why in ((t, w) for d in done for f in d["follow"]["refused"].values() for t, w in f.items()):
        solved.refused[template].update(why)
    write_table(part_path(out, "rejects", 0), _reject_table(context, solved))
    write_table(part_path(out, "balance", 0), balance_table(context, solved))
    families, rows, entailed = Counter[str](), Counter[str](), Counter[str]()
    for d in done:
        families.update(d["families"])
        rows.update(d["rows"])
        entailed.update(d["follow"]["rows"])
    counts = {
        "splits": {n: rows[n] for n in SAMPLE_SPLITS},
        "families": dict(sorted(families.items())),
        "programs": sum(d["programs"] for d in done),
        "images": len(s.image_ids),
        "entailed": {n: entailed[n] for n in SPLIT_NAMES if n in context.spec.entail},
    }
    about: dict[str, Any] = {
        "noun": context.noun,
        "look": context.look,
        "catalog": s.facts.name,
        "licence": s.facts.licence,
        "source": s.facts.source,
    }
    about["notes"] = [f"{k}: {v}" for k, v in sorted(s.notes.items())]
    manifest = Manifest(KIND, SCHEMA, counts=counts, about=about)
    manifest.params = {"identity": identity, **context.spec.decides(), "audit": asdict(context.spec.audit)}
    manifest.inputs = {"catalog": catalog.manifest.content_hash()}
    write_manifest(out, manifest, known)
    shutil.rmtree(out / ".work")  # last: a folder without manifest and `.work` is none of ours
    return _report(out, counts, _notes(context, solved))


def _report(out: Path, counts: dict[str, Any], notes: list[str], reused: bool = False) -> RunReport:
    """The report of what a manifest counts."""
    samples, families, programs, entailed = (counts[n] for n in ("splits", "families", "programs", "entailed"))
    return RunReport(str(out), samples, families, programs, notes, reused, entailed)


def _template_table(pack: Pack) -> pa.Table:
    rows = [
        {
            "template": n,
            "id": t.id,
            "family": t.family,
            "program": t.program.text(),
            "slots": [slot.name for slot in t.stored_slots],
            "texts": [q.text for q in t.paraphrases],
        }
        for n, t in enumerate(pack.templates)
    ]
    return pa.Table.from_pylist(rows)


def _reject_table(context: Context, solved: Solved) -> pa.Table:
    rows = [
        {"template": t.id, "family": t.family, "reason": reason, "count": count}
        for t in context.pack.templates
        for reason, count in sorted(solved.refused[t.id].items())
        if count
    ]
    rows += [
        {"template": t, "family": t.split(".")[0], "reason": why, "count": 0}
        for t, why in absent_templates(context, solved).items()
    ]
    schema = pa.schema(
        [("template", pa.string()), ("family", pa.string()), ("reason", pa.string()), ("count", pa.int64())]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def absent_templates(context: Context, solved: Solved) -> dict[str, str]:
    """Templates that this catalogue cannot carry, with the reason."""
    total: dict[str, int] = Counter()
    for unit, cells in zip(context.units, solved.cells, strict=True):
        total[context.template(unit).id] += cells.total
    tried = {context.template(u).id for u in context.units}
    reasons = dict(solved.dropped)
    for t in context.pack.templates:
        if total[t.id] or t.id in reasons:
            continue
        if t.id in context.spec.drop or context.spec.families.get(t.family, 1.0) == 0:
            reasons[t.id] = "left out by the spec"
        elif t.scene not in ("any", context.scenes.facts.scene):
            reasons[t.id] = f"it asks about catalogues of scene {t.scene!r} only"
        elif t.id not in tried:
            reasons[t.id] = "the catalogue has no attribute or label it asks about"
        else:
            top = solved.refused[t.id].most_common(1)
            reasons[t.id] = "every candidate was refused, most often: " + (
                top[0][0] if top else "none could be proposed"
            )
    return reasons


def _notes(context: Context, solved: Solved) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for name, why in absent_templates(context, solved).items():
        by_reason.setdefault(why, []).append(name)
    found = [f"not carried ({why}): {', '.join(names)}" for why, names in by_reason.items()]
    wanted = context.spec.samples
    have = sum(solved.targets.values())
    if wanted is not None and have < wanted:
        found.append(f"{wanted:,} samples were asked for; balance and family shares allow {have:,} of this catalogue")
    return found
