"""Reading a question set: by row, by split and family, as ids or as text.

store = VQAStore("questions")
store[0]                                          # one sample as a dict, rendered
for batch in store.iter("train", family="C2"):    # pyarrow tables of id columns
for batch in store.iter("test", rendered=True):   # with `question`, `answer_text`, `image_id`, `family`
for batch in store.entailed("test"):              # what follows from the samples of a split, joined by `source`
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.ontology import Ontology
from fashionkit.datagen.generate import KIND, SCHEMA
from fashionkit.datagen.grammar import Grammar
from fashionkit.datagen.packs import FAMILIES, Pack, Template, load_packs
from fashionkit.datagen.render import Renderer
from fashionkit.datagen.samples import SAMPLE_SPLITS, SLOTS, sample_files
from fashionkit.datagen.scene import root_of
from fashionkit.datagen.vocab import Vocab
from fashionkit.tables import InputError, read_manifest, read_table, table_parts

ABSENT = "absent"  # the not-present questions of the test split, as a split of their own


class VQAStore:
    """A finished question set. Memory does not grow with its size: parts are read when they are needed.

    Args:
        path: The folder.

    Raises:
        InputError: Not a question set, unfinished, or damaged.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.manifest = read_manifest(self.path, KIND, SCHEMA)
        self.ontology = Ontology.load(self.path / "ontology.yaml")
        self.pack: Pack = load_packs(sorted((self.path / "packs").glob("*.yaml")))
        self.vocab = Vocab.from_table(self.ontology, read_table(self.path, "vocab"))
        templates = read_table(self.path, "templates").to_pylist()
        if [t["id"] for t in templates] != [t.id for t in self.pack.templates]:
            raise InputError("the packs do not belong to this question set", file=self.path / "packs")
        self.slots: list[list[str]] = [t["slots"] for t in templates]
        root = self.vocab.category[root_of(self.ontology)]
        about = self.manifest.about
        self.renderer = Renderer(self.pack, Grammar(self.vocab, root, about["noun"], about["look"]), self.slots)
        for name in self.manifest.files:
            if not (self.path / name).is_file():
                raise InputError("a file of the question set is missing", file=self.path / name)
        self._files = [(s, p) for s in SAMPLE_SPLITS for p in sample_files(self.path, s)]
        self._starts = np.cumsum([0, *(_row_count(p) for _, p in self._files)])
        self._cached: tuple[int, pa.Table] | None = None

    def __len__(self) -> int:
        """Samples in all splits."""
        return int(self._starts[-1])

    @cached_property
    def image_ids(self) -> list[str]:
        """Catalogue ids of the pictures; a sample's `image` is a position here."""
        ids: list[str] = read_table(self.path, "images", ["image_id"])["image_id"].to_pylist()
        return ids

    def __getitem__(self, row: int) -> dict[str, Any]:
        """One sample, rendered, by its position (splits follow each other; it equals the sample's `qid`).

        Raises:
            IndexError: No such row.
        """
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} samples")
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        if self._cached is None or self._cached[0] != file:
            self._cached = (file, pq.read_table(self._files[file][1], partitioning=None))
        table = self._cached[1].slice(row - int(self._starts[file]), 1)
        return self.describe(table, self._files[file][0])[0]

    def iter(
        self, split: str = "train", family: str | None = None, rendered: bool = False, batch_size: int = 65_536
    ) -> Iterator[pa.Table]:
        """Tables of at most `batch_size` samples, in order.

        Args:
            split: One of `SAMPLE_SPLITS`, or `absent` (the not-present questions of test).
            family: Only this question family. rendered: Adds text columns.
            batch_size: Most rows of a table.

        Raises:
            InputError: No such split or family.
        """
        if split not in (*SAMPLE_SPLITS, ABSENT):
            raise InputError("no such split", file=self.path, found=split, allowed=[*SAMPLE_SPLITS, ABSENT])
        if family is not None and family not in FAMILIES:
            raise InputError("no such family", file=self.path, found=family, allowed=FAMILIES)
        family, split = ("N1", "test") if split == ABSENT else (family, split)
        wanted = pa.array([n for n, t in enumerate(self.pack.templates) if t.family == family], pa.uint16())
        for path in sample_files(self.path, split):
            for batch in pq.ParquetFile(path).iter_batches(batch_size):
                table = pa.Table.from_batches([batch])
                if family is not None:
                    table = table.filter(pc.is_in(table["template"], wanted))
                if table.num_rows:
                    yield self.render(table) if rendered else table

    def entailed(self, split: str = "test", rendered: bool = False, batch_size: int = 65_536) -> Iterator[pa.Table]:
        """Tables of at most `batch_size` questions that follow from samples of a split, in the order of these.

        They are asked like any other question; `fashionkit.metrics.consistency` compares their answers with those of
        the samples named in `source`.

        Args:
            split: One of the run's `entail`. rendered: Adds text columns. batch_size: Most rows of a table.

        Raises:
            InputError: The set holds no such questions of this split.
        """
        made = self.manifest.params.get("entail") or []
        if split not in made:
            hint = "name the split under `entail` in the run's spec"
            problem = "no entailed questions were made for this split"
            raise InputError(problem, file=self.path, found=split, allowed=made, hint=hint)
        for path in table_parts(self.path, f"entailed/{split}"):
            for batch in pq.ParquetFile(path).iter_batches(batch_size):
                table = pa.Table.from_batches([batch])
                yield self.render(table) if rendered else table

    def catalog(self, path: str | Path) -> Catalog:
        """The catalogue at `path`, for its pictures.

        Raises:
            InputError: It is not the one the set was made from.
        """
        found = Catalog(path)
        if found.manifest.content_hash() != self.manifest.inputs.get("catalog"):
            hint = "name the catalogue the set was made from, or make the set again"
            problem = "the questions were made from another catalogue, or from another state of it"
            raise InputError(problem, file=path, hint=hint)
        return found

    def render(self, table: pa.Table) -> pa.Table:
        """Adds `question`, `answer_text`, `image_id`, `family` to a table of samples."""
        template = table["template"].to_numpy()
        slots = [table[f"slot{i}"].to_numpy() for i in range(SLOTS)]
        question = self.renderer.questions(template, table["paraphrase"].to_numpy(), slots)
        families = pa.array([t.family for t in self.pack.templates])
        columns = {
            "question": question,
            "answer_text": self.renderer.answer_texts(table["answer"].to_numpy()),
            "image_id": pa.array(self.image_ids).take(table["image"].combine_chunks()),
            "family": families.take(table["template"].combine_chunks()),
        }
        for name, column in columns.items():
            table = table.append_column(name, column)
        return table

    def describe(self, table: pa.Table, split: str) -> list[dict[str, Any]]:
        """Samples as dicts for people: text, program with its slots filled in, difficulty."""
        rows = []
        for row in self.render(table).to_pylist():
            t = self.pack.templates[row["template"]]
            slots = {n: self.vocab.key[row[f"slot{i}"]] for i, n in enumerate(self.slots[row["template"]])}
            rows.append(
                {
                    "qid": row["qid"],
                    "split": split,
                    "image_id": row["image_id"],
                    "family": t.family,
                    "template": t.id,
                    "question": row["question"],
                    "answer": row["answer_text"],
                    "answer_id": row["answer"],
                    "program": filled_program(t, slots),
                    "slots": slots,
                    "difficulty": float(row["difficulty"]),
                }
            )
        return rows

    def sample(
        self, n: int, family: str | None = None, split: str | None = None, seed: int = 0
    ) -> list[dict[str, Any]]:
        """`n` samples chosen by seed, evenly over the families; fewer where there are not so many."""
        rng = np.random.default_rng(seed)
        found: dict[str, list[tuple[str, pa.Table]]] = {}
        families = np.array([t.family for t in self.pack.templates])
        for name, path in [(s, p) for s, p in self._files if split in (None, s)]:
            table = pq.read_table(path, partitioning=None)
            codes = families[table["template"].to_numpy()]
            for f in np.unique(codes):
                if family in (None, f):
                    rows = np.flatnonzero(codes == f)
                    rows = np.sort(rng.choice(rows, min(n, len(rows)), replace=False))
                    found.setdefault(str(f), []).append((name, table.take(pa.array(rows))))
        chosen: list[dict[str, Any]] = []
        share = -(-n // max(len(found), 1))
        for f in sorted(found):
            pool = [row for name, table in found[f] for row in self.describe(table, name)]
            picks = rng.choice(len(pool), min(share, len(pool)), replace=False)
            chosen += [pool[i] for i in sorted(picks)]
        return chosen[:n]


def _row_count(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"the file is damaged or not Parquet: {error}", file=path) from error


def filled_program(t: Template, slots: dict[str, str]) -> str:
    """The program with its slots' keys in place of their names."""
    import re

    return re.sub(r"[a-z_0-9]+", lambda m: slots.get(m[0], m[0]), t.program.text())
