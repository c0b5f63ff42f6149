"""`fashionkit embed`: all pictures of a catalogue as a folder of vectors.

    catalogue ─► shards of pictures ─► worker: [thread: bytes ─► decode ─► resize] ─► backbone ─► vectors/part-n.parquet
                                                                              └─► broken: rejects/part-n.parquet
                 all parts there ─► manifest

Each worker is one process with one thread of torch: on busy cores that is faster than one process with several. While
a batch is in the network, the next one is decoded. Parts that are there already are not made again, so a command that
was killed continues; parts do not depend on the number of workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError
from fashionkit.embed.ahead import ahead
from fashionkit.engine import engine_session, run_shards
from fashionkit.tables import InputError, Manifest, read_manifest, sha256_file, sweep_temporary, write_text
from fashionkit.tables import part_path as part_file
from fashionkit.vectors.schema import DTYPES, KIND, SCHEMA, finish_vectors, write_part, write_rejects

if TYPE_CHECKING:
    from fashionkit.embed.embedder import Embedder

PLAN = ".embed.json"
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class EmbedOptions:
    """What decides the vectors, and how they are made.

    Attributes:
        model: As `Embedder.load`. weights: The same. size: The same.
        dtype: `float16` or `float32`. shard: Pictures of a part. batch: Pictures of one pass.
        workers: Processes. engine, address: See `fashionkit.engine`.
    """

    model: str
    weights: str | None = None
    size: int | None = None
    dtype: str = "float16"
    shard: int = 1024
    batch: int = 32
    workers: int = 1
    engine: str = "local"
    address: str = ""

    def decides(self) -> dict[str, Any]:
        """What another run must share to continue this one; weights by their content, wherever they lie."""
        kept = {
            key: value for key, value in asdict(self).items() if key in ("model", "weights", "size", "dtype", "shard")
        }
        for key in ("model", "weights"):
            path = Path(str(kept[key]))
            if kept[key] and path.exists():
                files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
                kept[key] = [sha256_file(file) for file in files if file.name != "README.md"]
        return kept


def embed_catalog(catalog: str | Path, out: str | Path, options: EmbedOptions) -> Manifest:
    """Embeds all pictures of a catalogue; continues where an earlier run of the same command stopped.

    Args:
        catalog: A catalogue with pictures. out: Folder to write, of kind `vectors`; ids are picture ids.

    Returns:
        The manifest: how many vectors and rejects there are.

    Raises:
        InputError: No catalogue, no pictures, no such model, or `out` holds other vectors.
    """
    source, out = Catalog(catalog), Path(out)
    _check(options)
    decided = {"catalog": source.manifest.content_hash(), **options.decides()}
    if (done := _finished(out, decided)) is not None:
        return done
    ids = source.table("images", ["image_id"])["image_id"].to_pylist()
    if not ids:
        raise InputError("the catalogue has no pictures", file=source.path)
    _claim(out, decided)
    shards = [(number, ids[lo : lo + options.shard]) for number, lo in enumerate(range(0, len(ids), options.shard))]
    left = [shard for shard in shards if not _made(out, shard[0])]
    names: set[tuple[str, str]] = set()
    with engine_session(options.engine, options.workers, options.address, out, _say):
        results = run_shards(
            _embed_shard,
            left,
            options.workers,
            engine=options.engine,
            initializer=_begin,
            initargs=(str(source.path.absolute()), str(out.absolute()), options),
            describe="embedding",
            total_rows=sum(len(some) for _, some in left),
            rows=lambda result: result[0],
        )
        for _, name, fingerprint in results:
            names.add((name, fingerprint))
    name, fingerprint = _one_model(out, names)
    manifest = finish_vectors(
        out,
        {"model": name, "fingerprint": fingerprint, "decided": decided},
        {"catalog": decided["catalog"]},
        dict(source.manifest.about),
    )
    (out / PLAN).unlink(missing_ok=True)
    return manifest


def _say(line: str) -> None:
    import sys

    print(line, file=sys.stderr, flush=True)


def _check(options: EmbedOptions) -> None:
    if options.dtype not in DTYPES:
        raise InputError("no such type of vectors", column="dtype", found=options.dtype, allowed=sorted(DTYPES))
    for key in ("shard", "batch", "workers"):
        if getattr(options, key) < 1:
            raise InputError("must be at least 1", column=key, found=getattr(options, key))


def _finished(out: Path, decided: dict[str, Any]) -> Manifest | None:
    """The manifest of a folder that this command finished before."""
    if not (out / "manifest.json").is_file():
        return None
    manifest = read_manifest(out, KIND, SCHEMA)
    if manifest.params.get("decided") != decided:
        hint = "name another folder, or delete this one"
        raise InputError("these are vectors of another catalogue, model or setting", file=out, hint=hint)
    return manifest


def _claim(out: Path, decided: dict[str, Any]) -> None:
    """Marks a folder as this command's; refuses one that holds something else."""
    plan = out / PLAN
    if plan.is_file():
        try:
            found = json.loads(plan.read_text(encoding="utf-8"))["decided"]
        except (ValueError, KeyError, TypeError):
            found = None
        if found != decided:
            hint = "run that command again, name another folder, or delete this one"
            raise InputError("an unfinished run with other settings left this folder", file=out, hint=hint)
        sweep_temporary(out)
        return
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError("there is something already, and not of this command", file=out, hint="name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    write_text(plan, json.dumps({"decided": decided}, indent=1) + "\n")


def _made(out: Path, number: int) -> bool:
    return part_file(out, "vectors", number).is_file()  # it is written after the part's rejects


def _one_model(out: Path, names: set[tuple[str, str]]) -> tuple[str, str]:
    """The model's name and fingerprint, also where all parts were there already."""
    path = out / ".model.json"
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        names.add((known["name"], known["fingerprint"]))
    if len(names) != 1:
        hint = "delete the folder and run the command again"
        raise InputError("parts of this folder come from different weights", file=out, hint=hint)
    path.unlink(missing_ok=True)
    return next(iter(names))


@dataclass
class _Work:
    """What a worker keeps between shards."""

    catalog: Catalog
    out: Path
    options: EmbedOptions
    model: Embedder | None = None
    fingerprint: str = ""


_work: _Work | None = None


def _begin(catalog: str, out: str, options: EmbedOptions) -> None:
    global _work
    _work = _Work(Catalog(catalog), Path(out), options)


def _embed_shard(shard: tuple[int, list[str]]) -> tuple[int, str, str]:
    """Makes one part; returns its pictures, and the model's name and fingerprint."""
    assert _work is not None, "a worker is set up before its first shard"
    number, ids = shard
    model = _model(_work)
    kept: list[str] = []
    vectors: list[npt.NDArray[np.float32]] = []
    rejects: list[tuple[str, str]] = []
    for some, pixels in _prepared(_work, model, ids, rejects):
        kept += some
        vectors.append(model.embed_prepared(pixels))
    if rejects:
        write_rejects(_work.out, number, rejects)
    stacked = np.concatenate(vectors) if vectors else np.zeros((0, model.dim), np.float32)
    write_part(_work.out, number, kept, stacked, _work.options.dtype)
    return len(ids), model.name, _work.fingerprint


def _model(work: _Work) -> Embedder:
    if work.model is None:
        import torch

        from fashionkit.embed.embedder import Embedder

        if work.options.workers > 1 or work.options.engine != "local":
            torch.set_num_threads(1)
        o = work.options
        work.model = Embedder.load(o.model, o.weights, o.size, batch=o.batch)
        work.fingerprint = work.model.fingerprint
        facts = {"name": work.model.name, "fingerprint": work.fingerprint}
        write_text(work.out / ".model.json", json.dumps(facts) + "\n")
    return work.model


def _prepared(
    work: _Work, model: Embedder, ids: Sequence[str], rejects: list[tuple[str, str]]
) -> Iterator[tuple[list[str], list[Pixels]]]:
    """Ids and pixels, a batch at a time; the next batch is decoded while this one is used."""
    from fashionkit.vision.pictures import as_picture, sized

    def load(some: Sequence[str]) -> list[tuple[str, Pixels | str]]:
        found: list[tuple[str, Pixels | str]] = []
        encoded = _bytes(work.catalog, some)
        for name in some:
            data = encoded[name]
            if not isinstance(data, bytes):
                found.append((name, data or "the catalogue has no picture under this id"))
                continue
            try:
                found.append((name, sized(as_picture(data), model.preprocess)))
            except PictureError as error:
                found.append((name, str(error)))
        return found

    size = work.options.batch
    for loaded in ahead(load, (ids[lo : lo + size] for lo in range(0, len(ids), size))):
        rejects += [(name, what) for name, what in loaded if isinstance(what, str)]
        good = [(name, what) for name, what in loaded if not isinstance(what, str)]
        if good:
            yield [name for name, _ in good], [what for _, what in good]


def _bytes(catalog: Catalog, ids: Sequence[str]) -> dict[str, bytes | str | None]:
    """Encoded pictures by id, or what is wrong with one."""
    try:
        return dict(catalog.image_bytes(list(ids)))
    except InputError:
        found: dict[str, bytes | str | None] = {}
        for name in ids:  # one file is gone: the others are not to suffer
            try:
                found[name] = catalog.image_bytes([name]).get(name)
            except InputError as error:
                found[name] = str(error).splitlines()[0]
        return found
