"""Maps made of what a catalogue says of its pictures: what a network could answer if it saw everything.

    catalogue ─► `datagen.scene` ─► a cell for the picture: its labels      ┐
                                    a cell for each item: its category,     ├─► (F, S, 1) zeros and ones
                                    region and values, with all above them  ┘

In place of a backbone's maps they give the ceiling of a network on a set of questions: what it still gets wrong, it
has not learnt to read, for nothing is left to see. The picture is never looked at. What is unknown is no value: its
bits are zero, and a bit of its own says so. This arm is ours.

Letters: P pictures, M items, F facts that may hold, S cells: one, and one for each item of the fullest picture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.scene import S_ABSENT, S_HIDDEN, S_UNKNOWN, Scenes, load_scenes
from fashionkit.datagen.vocab import Vocab
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
PICTURE, ITEM = "picture", "item"  # the cell is of a picture, or of an item
STATES = {"unknown": S_UNKNOWN, "absent": S_ABSENT, "not visible": S_HIDDEN}
_ROWS = 1 << 15  # items worked on at a time


class TruthMaps:
    """Maps of a catalogue's pictures.

    Args:
        catalog: Its folder, with splits.

    Attributes:
        facts: F names, such as `category/shirt`, `colour/navy`, `colour: unknown`. shape: (F, S, 1).
    """

    def __init__(self, catalog: str | Path):
        self.scenes = s = load_scenes(catalog)
        vocab, names = s.vocab, (*s.attributes, *s.labels)
        words = [f"category/{key}" for key in vocab.category] + [f"region/{key}" for key in vocab.region]
        values = [f"{a}/{v}" for a, v in vocab.value if a in names]
        states = [f"{a}: {state}" for a in names for state in STATES]
        self.facts = [PICTURE, ITEM, *words, *values, *states]
        self._column = {name: column for column, name in enumerate(self.facts)}
        self.shape = (len(self.facts), 1 + int(np.diff(s.start).max(initial=0)), 1)
        holds = self._holds(vocab)
        self._of_picture = self._pictures(s, holds)
        parts = [self._items(s, holds, slice(lo, lo + _ROWS)) for lo in range(0, len(s.leaf), _ROWS)]
        empty = np.zeros((0, self._of_picture.shape[1]), np.uint8)
        self._of_item = np.concatenate([empty, *parts])  # (M, F / 8) bits
        self._at = {name: row for row, name in enumerate(s.image_ids)}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what the channels mean: equal for maps that a network may be shown in place of each other."""
        return hashlib.sha256(json.dumps([self.facts, self.shape]).encode()).hexdigest()

    def rows(self, ids: Sequence[str]) -> TruthRows:
        """The maps of some pictures, made where they are asked for.

        Raises:
            InputError: A picture that the catalogue does not have.
        """
        for name in ids:
            if name not in self._at:
                raise InputError("no such picture in the catalogue", found=name)
        return TruthRows(self, np.array([self._at[name] for name in ids], np.int64))

    def maps(self, places: Array) -> Array:
        """(b, F, S, 1) uint8 of b pictures by their place in the scenes."""
        start, count = self.scenes.start[places], np.diff(self.scenes.start)[places]
        found = np.zeros((len(places), self.shape[1], self.shape[0]), np.uint8)  # (b, S, F)
        found[:, 0] = self._bits(self._of_picture[places])
        row = np.repeat(np.arange(len(places)), count)
        number = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        found[row, 1 + number] = self._bits(self._of_item[np.repeat(start, count) + number])
        return found.transpose(0, 2, 1)[..., None]

    def _bits(self, packed: Array) -> Array:
        return np.unpackbits(packed, axis=1, count=self.shape[0])

    def _holds(self, vocab: Vocab) -> Array:
        """(vocabulary, F) bool: what is true where a word is."""
        onto, found = vocab.ontology, np.zeros((len(vocab), len(self.facts)), bool)
        for key, number in vocab.category.items():
            for other in (key, *onto.ancestors(key)):
                found[number, self._column[f"category/{other}"]] = True
        for key, number in vocab.region.items():
            found[number, self._column[f"region/{key}"]] = True
        for (attribute, key), number in vocab.value.items():
            if f"{attribute}/{key}" in self._column:
                for other in (key, *onto.value_ancestors(attribute, key)):
                    found[number, self._column[f"{attribute}/{other}"]] = True
        for members, number in vocab.sets.items():
            found[number] = found[list(members)].any(0)
        return found

    def _pictures(self, s: Scenes, holds: Array) -> Array:
        """(P, F / 8) bits."""
        found = np.zeros((len(s.image_ids), len(self.facts)), bool)
        for number, name in enumerate(s.labels):
            found |= holds[s.label[:, number]]
            found[:, self._column[f"{name}: unknown"]] = s.label[:, number] == 0
        found[:, self._column[PICTURE]] = True
        return np.packbits(found, axis=1)

    def _items(self, s: Scenes, holds: Array, rows: slice) -> Array:
        """(m, F / 8) bits of some items."""
        leaf = s.leaf[rows]
        found = holds[leaf] | holds[s.region[rows]]
        for number, name in enumerate(s.attributes):
            found |= holds[s.value[rows, number]]
            applies = np.zeros(len(s.vocab), bool)
            applies[[at for key, at in s.vocab.category.items() if s.ontology.applies(name, key)]] = True
            for state, code in STATES.items():
                found[:, self._column[f"{name}: {state}"]] = (s.state[rows, number] == code) & applies[leaf]
        found[:, self._column[ITEM]] = True
        return np.packbits(found, axis=1)


class TruthRows:
    """n maps, like an array (n, F, S, 1) of which only what is asked for is made.

    Args:
        maps: Of the catalogue. places: (n,) in its scenes.
    """

    def __init__(self, maps: TruthMaps, places: Array):
        self.maps, self.places = maps, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Any) -> Array:
        """(b, F, S, 1) uint8 of a slice or an array of b row numbers."""
        return self.maps.maps(self.places[rows])
