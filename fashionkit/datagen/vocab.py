"""One id space for everything a sample can name: answers, categories, attributes, regions, values, value sets.

Samples hold `uint16` ids only; this table gives them a meaning. It is written into every question set as
`vocab/part-00000.parquet`, so a set can be read without the catalogue it came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from fashionkit.catalog.ontology import Ontology
from fashionkit.tables import InputError

NONE, YES, NO, NOT_PRESENT, LOOK = 0, 1, 2, 3, 4
FIRST_INT, MAX_INT = 5, 32
VOCAB = pa.schema(
    [
        pa.field("id", pa.uint16(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # none answer look int category attribute region value set
        pa.field("key", pa.string(), nullable=False),  # "t_shirt", "colour", "colour/navy", "details/bow+logo"
        pa.field("text", pa.string(), nullable=False),  # the canonical answer
        pa.field("members", pa.list_(pa.uint16()), nullable=False),  # of a set, ascending
    ]
)


@dataclass
class Vocab:
    """Ids of an ontology's words and of the value sets that a catalogue holds.

    Attributes:
        kind, key, text, members: Lists by id, as in `VOCAB`.
    """

    ontology: Ontology
    kind: list[str] = field(default_factory=list)
    key: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    members: list[tuple[int, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for kind, key, text in (("none", "", ""), ("answer", "yes", "yes"), ("answer", "no", "no")):
            self._add(kind, key, text)
        self._add("answer", "not_present", "not present")
        self._add("look", "look", "look")
        for number in range(MAX_INT + 1):
            self._add("int", str(number), str(number))
        onto = self.ontology
        self.category = {c.key: self._add("category", c.key, c.name) for c in onto.categories.values()}
        self.attribute = {a.key: self._add("attribute", a.key, a.name) for a in onto.attributes.values()}
        self.region = {r.key: self._add("region", r.key, r.name) for r in onto.regions.values()}
        self.value: dict[tuple[str, str], int] = {}
        for a in onto.attributes.values():
            for v in a.values.values():
                self.value[a.key, v.key] = self._add("value", f"{a.key}/{v.key}", v.name)
        self.sets: dict[tuple[int, ...], int] = {}

    def _add(self, kind: str, key: str, text: str, members: tuple[int, ...] = ()) -> int:
        number = len(self.kind)
        if number > 65535:
            raise InputError("ontology and catalogue together name more than 65,535 things", found=key)
        self.kind.append(kind)
        self.key.append(key)
        self.text.append(text)
        self.members.append(members)
        return number

    def __len__(self) -> int:
        return len(self.kind)

    def add_sets(self, attribute: str, sets: Iterable[tuple[int, ...]]) -> None:
        """Gives each value set of a non-exclusive attribute an id; the text lists its values in id order."""
        for members in sorted(set(sets) - set(self.sets)):
            key = attribute + "/" + "+".join(self.key[m].split("/", 1)[1] for m in members)
            self.sets[members] = self._add("set", key, ", ".join(self.text[m] for m in members), members)

    def attribute_of(self, value: int) -> str:
        """Key of the attribute that a value or set belongs to."""
        return self.key[value].split("/", 1)[0]

    def table(self) -> pa.Table:
        """The vocabulary as a table of `VOCAB`."""
        columns = [
            pa.array(range(len(self)), pa.uint16()),
            pa.array(self.kind),
            pa.array(self.key),
            pa.array(self.text),
            pa.array([list(m) for m in self.members], pa.list_(pa.uint16())),
        ]
        return pa.Table.from_arrays(columns, schema=VOCAB)

    @staticmethod
    def from_table(ontology: Ontology, table: pa.Table) -> Vocab:
        """Rebuilds the vocabulary of a question set.

        Raises:
            InputError: The table was not made from this ontology.
        """
        vocab = Vocab(ontology)
        for row in table.slice(len(vocab)).to_pylist():
            members = tuple(row["members"])
            vocab.sets[members] = vocab._add(row["kind"], row["key"], row["text"], members)
        if vocab.key != table.column("key").to_pylist():
            raise InputError(
                "the vocabulary does not belong to this ontology", hint="the question set's files were mixed up"
            )
        return vocab
