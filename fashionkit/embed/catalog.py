"""`fashionkit embed`: all pictures of a catalogue as a folder of vectors.

    catalogue ─► shards of pictures ─► worker: [thread: bytes ─► decode ─► resize] ─► backbone ─► vectors/part-n.parquet
                                                                              └─► broken: rejects/part-n.parquet
                 all parts there ─► manifest

Each worker is one process with one thread of torch, so that a part's bytes do not depend on the number of cores. While
a batch is in the network, the next one is decoded. Parts that are there already are not made again, so a command that
was killed continues; what is in a part does not depend on the number of workers.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError
from fashionkit.embed.names import check_name
from fashionkit.engine import engine_session, run_shards
from fashionkit.engine.ahead import ahead
from fashionkit.engine.alone import LOCK, alone
from fashionkit.engine.threads import one_thread
from fashionkit.tables import InputError, Manifest, read_manifest, sha256_file, sweep_temporary, table_parts, write_text
from fashionkit.tables import part_path as part_file
from fashionkit.vectors.schema import DTYPES, KIND, MAX_PARTS, SCHEMA, finish_vectors, write_part, write_rejects

if TYPE_CHECKING:
    from fashionkit.embed.embedder import Embedder

PLAN = ".embed.json"  # what decides the vectors, while the folder is unfinished
MODEL = ".model.json"  # what the first part was made with
WORDS = ("random", "hub", "offline")  # weights that are no path
LOADED = (".safetensors", ".pth", ".pt", ".bin", ".json")  # files of a folder that decide what its model is
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
        kept: dict[str, Any] = {
            key: value for key, value in asdict(self).items() if key in ("model", "weights", "size", "dtype", "shard")
        }
        for key in ("model", "weights"):
            path = Path(str(kept[key]))
            is_word = kept[key] is None or str(kept[key]).partition(":")[0] in WORDS
            if not is_word and path.exists():
                files = sorted(p for p in path.iterdir() if p.suffix in LOADED) if path.is_dir() else [path]
                kept[key] = [sha256_file(file) for file in files]
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
    source = Catalog(catalog)
    _check(options, out)
    out = Path(out)
    decided = {"catalog": source.manifest.content_hash(), **options.decides()}
    if (done := _finished(out, decided)) is not None:
        return done
    ids = source.table("images", ["image_id"])["image_id"].to_pylist()
    if not ids:
        raise InputError("the catalogue has no pictures", file=source.path)
    if len(ids) > MAX_PARTS * options.shard:
        hint = f"at least {-(-len(ids) // MAX_PARTS)} for so many pictures"
        raise InputError("the shards are too small", column="shard", found=options.shard, hint=hint)
    with _alone(out):
        return _finish(source, out, options, decided, ids)


def _finish(source: Catalog, out: Path, options: EmbedOptions, decided: dict[str, Any], ids: list[str]) -> Manifest:
    """Makes the parts that are missing, and then the manifest."""
    _claim(out, decided)
    shards = [(number, ids[lo : lo + options.shard]) for number, lo in enumerate(range(0, len(ids), options.shard))]
    left = [shard for shard in shards if not _made(out, shard[0])]
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
            rows=int,
        )
        for _ in results:
            pass
    model = _recorded(out)
    if model is None:
        hint = "delete the folder and run the command again"
        raise InputError("the record of what the parts were made with is gone", file=out / MODEL, hint=hint)
    manifest = finish_vectors(
        out,
        {**model, "decided": decided},
        {"catalog": decided["catalog"]},
        dict(source.manifest.about),
    )
    for name in (PLAN, MODEL, LOCK):
        (out / name).unlink(missing_ok=True)
    return manifest


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps a second run, and what is not this command's, out of the folder."""

    def check() -> None:
        if out.is_dir() and any(out.iterdir()) and not (out / PLAN).is_file():
            raise InputError("there is something already, and not of this command", file=out, hint="name a new folder")

    with alone(out, check):
        yield


def _say(line: str) -> None:
    import sys

    print(line, file=sys.stderr, flush=True)


def _check(options: EmbedOptions, out: str | Path) -> None:
    if not str(out):
        raise InputError("the folder to write to has no name", column="out")
    if Path(out).is_file():
        raise InputError("there is something already, and it is a file", file=out, hint="name a new folder")
    if not Path(options.model).is_dir():
        check_name(options.model, options.weights)
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
        if found != decided and (table_parts(out, "vectors") or table_parts(out, "rejects")):
            hint = "run that command again, name another folder, or delete this one"
            raise InputError("an unfinished run with other settings left this folder", file=out, hint=hint)
        sweep_temporary(out)
        if found == decided:
            return
        (out / MODEL).unlink(missing_ok=True)  # of a run that made nothing
    write_text(plan, json.dumps({"decided": decided}, indent=1) + "\n")


def _made(out: Path, number: int) -> bool:
    """Whether a part is there, and not one in which every picture was refused, as when a disk was not mounted."""
    path = part_file(out, "vectors", number)  # it is written after the part's rejects
    return path.is_file() and pq.read_metadata(path).num_rows > 0


def _recorded(out: Path) -> dict[str, str] | None:
    """Name and fingerprint of the model that made the parts; None before the first one."""
    if not (out / MODEL).is_file():
        return None
    try:
        known = json.loads((out / MODEL).read_text(encoding="utf-8"))
        return {"model": str(known["model"]), "fingerprint": str(known["fingerprint"])}
    except (ValueError, KeyError, TypeError):
        return None


@dataclass
class _Work:
    """What a worker keeps between shards."""

    catalog: Catalog
    out: Path
    options: EmbedOptions
    model: Embedder | None = None


_work: _Work | None = None


def _begin(catalog: str, out: str, options: EmbedOptions) -> None:
    global _work
    _work = _Work(Catalog(catalog), Path(out), options)


def _embed_shard(shard: tuple[int, list[str]]) -> int:
    """Makes one part; returns how many pictures it had."""
    assert _work is not None, "a worker is set up before its first shard"
    number, ids = shard
    model = _model(_work)
    kept: list[str] = []
    vectors: list[npt.NDArray[np.float32]] = []
    rejects: list[tuple[str, str]] = []
    with one_thread():  # several differ in the last digit
        for some, pixels in _prepared(_work, model, ids, rejects):
            kept += some
            vectors.append(model.embed_prepared(pixels))
    if rejects:
        write_rejects(_work.out, number, rejects)
    else:  # an earlier try may have left some
        part_file(_work.out, "rejects", number).unlink(missing_ok=True)
    stacked = np.concatenate(vectors) if vectors else np.zeros((0, model.dim), np.float32)
    write_part(_work.out, number, kept, stacked, _work.options.dtype)
    return len(ids)


def _model(work: _Work) -> Embedder:
    if work.model is None:
        from fashionkit.embed.embedder import Embedder

        o = work.options
        model = Embedder.load(o.model, o.weights, o.size, batch=o.batch)
        facts, known = {"model": model.name, "fingerprint": model.fingerprint}, _recorded(work.out)
        if known is None:
            write_text(work.out / MODEL, json.dumps(facts) + "\n")
        elif known != facts:
            hint = "a tag may have moved, or a package is of another version: delete the folder, or name another one"
            raise InputError("parts of this folder were made with other weights", file=work.out, hint=hint)
        work.model = model
    return work.model


def _prepared(
    work: _Work, model: Embedder, ids: Sequence[str], rejects: list[tuple[str, str]]
) -> Iterator[tuple[list[str], list[Pixels]]]:
    """Ids and pixels, a batch at a time; the next batch is decoded while this one is used."""
    from fashionkit.vision.pictures import as_picture, sized

    def load(some: Sequence[str]) -> list[tuple[str, Pixels | str]]:
        found: list[tuple[str, Pixels | str]] = []
        encoded = encoded_pictures(work.catalog, some)
        for name in some:
            data = encoded[name]
            if isinstance(data, str):
                found.append((name, data))
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


def encoded_pictures(catalog: Catalog, ids: Sequence[str]) -> dict[str, bytes | str]:
    """Encoded pictures by id, or what is wrong with one."""
    missing = "the catalogue has no picture under this id"
    try:
        encoded = catalog.image_bytes(list(ids))
        return {name: encoded.get(name) or missing for name in ids}
    except InputError:
        found: dict[str, bytes | str] = {}
        for name in ids:  # one file is gone: the others are not to suffer
            try:
                found[name] = catalog.image_bytes([name]).get(name) or missing
            except InputError as error:
                found[name] = str(error).splitlines()[0]
        return found
