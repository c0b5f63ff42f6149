"""Question sets as text for other tools: rendered Parquet, LLaVA conversations, JSON lines, WebDataset shards.

    samples ─► VQAStore.iter(rendered) ─► <out>/<split>/part-00000.parquet | .json | .jsonl  + manifest
                                       ─► <out>/<split>/shard-00000.tar (`export_webdataset`)

Parts follow the parts of the set, each written whole; an interrupted export goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fashionkit.datagen.export_webdataset import Shard, Tars
from fashionkit.datagen.samples import SAMPLE_SPLITS, sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.engine import run_shards
from fashionkit.tables import (
    MANIFEST,
    InputError,
    Manifest,
    read_manifest,
    sweep_temporary,
    write_atomic,
    write_manifest,
    write_table,
)

SUFFIX = {"parquet": ".parquet", "llava": ".json", "jsonl": ".jsonl", "webdataset": ".tar"}
COLUMNS = ["qid", "image_id", "question", "answer", "family", "template", "difficulty"]


def export_set(
    path: str,
    out: str,
    form: str,
    splits: Sequence[str] = (),
    catalog: str | None = None,
    workers: int = 1,
    shard_mb: int = 256,
) -> dict[str, int]:
    """Exports a question set; returns samples by split.

    Args:
        path: Question set. out: Folder to write. form: `parquet`, `llava`, `jsonl` or `webdataset`.
        splits: Which; all where empty. catalog: Fills `image` with picture paths where the catalogue keeps files;
            the pictures themselves go into `webdataset`.
        workers: Processes. shard_mb: About how many MiB a shard of `webdataset` has.

    Raises:
        InputError: Unknown split or format, or `out` holds something else.
    """
    store, target = VQAStore(path), Path(out)
    chosen = list(splits) or [s for s in SAMPLE_SPLITS if sample_files(store.path, s)]
    for split in chosen:
        if split not in SAMPLE_SPLITS:
            raise InputError("no such split", file=path, found=split, allowed=SAMPLE_SPLITS)
    if form not in SUFFIX:
        raise InputError("no such format", found=form, allowed=SUFFIX)
    tars = Tars(store, catalog, shard_mb) if form == "webdataset" else None
    names = _picture_names(store, catalog) if tars is None else {}
    params: dict[str, Any] = {
        "format": form,
        "splits": chosen,
        "set": store.manifest.content_hash(),
        "paths": catalog is not None,
    }
    params |= {} if tars is None else {"shard_mb": shard_mb}
    if (target / MANIFEST).exists() and (done := read_manifest(target)).params == params:
        return dict(done.counts)
    _claim(target, params)
    sweep_temporary(target)
    shards: list[Any] = [(path, s, str(p), str(target), form) for s in chosen for p in sample_files(store.path, s)]
    if tars is not None:
        shards = tars.plan(chosen, target)
    counts: Counter[str] = Counter({s: 0 for s in chosen})
    for split, rows in run_shards(
        _export_part if tars is None else _export_tar,
        shards,
        workers,
        initializer=_share,
        initargs=(store, names, tars),
        describe="exporting",
    ):
        counts[split] += rows
    (target / ".export.json").unlink()
    manifest = Manifest("export", 1, params=params, counts=dict(counts), about=dict(store.manifest.about))
    manifest.inputs = {"questions": store.manifest.content_hash()}
    write_manifest(target, manifest)
    return dict(counts)


_store: VQAStore | None = None
_names: dict[str, str] = {}
_tars: Tars | None = None


def _share(store: VQAStore, names: dict[str, str], tars: Tars | None) -> None:
    global _store, _names, _tars
    _store, _names, _tars = store, names, tars


def _claim(target: Path, params: dict[str, Any]) -> None:
    """Refuses a folder that holds anything but a begun export of the same settings."""
    marker = target / ".export.json"
    if target.exists() and any(target.iterdir()):
        begun = json.loads(marker.read_text()) if marker.exists() else None
        if begun != params:
            raise InputError(
                "the folder is not empty and holds no begun export of these settings",
                file=target,
                hint="name another folder",
            )
    target.mkdir(parents=True, exist_ok=True)
    write_atomic(marker, lambda t: t.write_text(json.dumps(params)) and None)


def _picture_names(store: VQAStore, catalog: str | None) -> dict[str, str]:
    """image_id → picture path, where the catalogue keeps files; else the id with what a file name may hold."""
    names = {i: _file_name(i) for i in store.image_ids}
    if catalog is not None:
        table = store.catalog(catalog).table("images", ["image_id", "path"])
        names |= {r["image_id"]: r["path"] for r in table.to_pylist() if r["path"] is not None}
        for path in map(Path, names.values()):
            if path.is_absolute() or ".." in path.parts:
                raise InputError("a picture's path leads outside the image folder", file=catalog, found=str(path))
    return names


def _file_name(image_id: str) -> str:
    """The id itself where a file may be called so; else what is left of it, and a hash, so that no two are alike."""
    name = re.sub(r"[^\w.-]+", "_", image_id).lstrip(".")
    if name == image_id:
        return name
    return f"{name or 'image'}-{hashlib.blake2b(image_id.encode(), digest_size=4).hexdigest()}"


def _export_part(shard: tuple[str, str, str, str, str]) -> tuple[str, int]:
    """Writes one part unless it is there; returns its split and rows."""
    _, split, source, target, form = shard
    assert _store is not None
    out = Path(target) / split / (Path(source).stem + SUFFIX[form])
    rows = pq.read_metadata(source).num_rows
    if not out.exists():
        table = _text_table(_store, pq.read_table(source, partitioning=None))
        if form == "parquet":
            write_table(out, table)
        else:
            lines = _conversations(table) if form == "llava" else _json_lines(table)
            write_atomic(out, lambda t: t.write_text(lines, encoding="utf-8") and None)
    return split, rows


def _export_tar(shard: Shard) -> tuple[str, int]:
    """Writes one tar unless it is there; returns its split and samples."""
    assert _tars is not None
    return shard.split, _tars.write(shard)


def _text_table(store: VQAStore, samples: pa.Table) -> pa.Table:
    table = store.render(samples)
    template = pa.array([t.id for t in store.pack.templates]).take(table["template"].combine_chunks())
    columns = {
        "qid": table["qid"],
        "image_id": table["image_id"],
        "image": pa.array([_names[i] for i in table["image_id"].to_pylist()]),
        "question": table["question"],
        "answer": table["answer_text"],
        "family": table["family"],
        "template": template,
        "difficulty": table["difficulty"].cast(pa.float32()),
    }
    return pa.table(columns)


def _json_lines(table: pa.Table) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def _conversations(table: pa.Table) -> str:
    """LLaVA's list: an entry a picture, its questions in turn; the first carries the picture."""
    entries: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        entry = entries.setdefault(row["image_id"], {"id": row["image_id"], "image": row["image"], "conversations": []})
        turns = entry["conversations"]
        turns.append({"from": "human", "value": row["question"] if turns else "<image>\n" + row["question"]})
        turns.append({"from": "gpt", "value": row["answer"]})
    return json.dumps(list(entries.values()), ensure_ascii=False, indent=0) + "\n"
