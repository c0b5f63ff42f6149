"""Captions of a catalogue's pictures, in the words of its ontology, and of which other pictures each of them is true.

    catalogue ─► `datagen.scene` ─► items, their known values ─► (seed, epoch, row) draws what is said ─► `Caption`
                                                                     words: `datagen.grammar`   a photo of a navy shirt
    caption of one picture, facts of another ─► `truths`: it holds, it could hold, or neither

A caption says a category and present values; what is unknown, absent or hidden is not said, nor what no picture shows.
Of a product's picture it names the product, of an outfit's some of the items.

Unknown is not no, so a caption counts as wrong of a picture only where the tables rule it out. "A shirt" holds of every
navy shirt; "a navy shirt" could hold of a shirt whose colour nobody stated; of a red shirt it is wrong. An item that a
caption names and a picture of an outfit does not list is ruled out only where its category is closed. Two items of a
caption may be found in one item of a picture: this errs towards "could", which costs a contrast and teaches nothing
wrong.

Letters: P pictures, T captions, K clauses (categories, values), S items and M facts of an item that a caption can say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.values import distinct
from fashionkit.datagen.counter import again, mix, stream
from fashionkit.datagen.grammar import Grammar
from fashionkit.datagen.scene import S_PRESENT, load_scenes
from fashionkit.tables import InputError
from fashionkit.train.data import PictureData
from fashionkit.train.loader import Key
from fashionkit.train.pictures import Examples
from fashionkit.vision.preprocess import Preprocess

Array = npt.NDArray[Any]
FRAMES = {
    "product": ("a photo of {}", "{}", "a picture of {}", "a product photo of {}", "this is {}"),
    "outfit": ("a photo of {}", "{}", "an outfit with {}", "a picture of someone in {}", "a look of {}"),
}
NOTHING = -1  # where a caption says fewer items or facts than it could
_CHUNK = 1 << 24  # numbers held at a time


class Caption(NamedTuple):
    """One caption.

    Attributes:
        text: Its words. said: (S, M) int64 clauses in canonical order, NOTHING where there are no more: equal for
            captions that say the same, however they put it.
        closed: (S,) bool: a picture that lists no such item has none.
    """

    text: str
    said: Array
    closed: Array


class Item(NamedTuple):
    """What can be said of an item, as vocabulary ids: `noun`, and `values` in the order of the ontology."""

    noun: int
    values: tuple[int, ...]


class Captions:
    """Captions of the pictures of a catalogue.

    Args:
        catalog: With splits. seed: Of what is said. attributes: Which may be said; empty: all that pictures show.
        items, values: At most so many items of an outfit, and values of an item, are said.

    Attributes:
        ids: Of the pictures that have an item, in the order of their rows. splits: Of each.

    Raises:
        InputError: No picture has an item, no such attribute, or a limit below its least.
    """

    def __init__(
        self, catalog: Catalog, seed: int = 0, attributes: Sequence[str] = (), items: int = 4, values: int = 3
    ):
        if items < 1 or values < 0:
            raise InputError("a caption says at least 1 item, and 0 values or more", found=f"{items} items, {values}")
        self.scenes = s = load_scenes(catalog.path)
        for name in sorted(set(attributes) - set(s.attributes)):
            problem = "no attribute of items that pictures show"
            raise InputError(problem, file=catalog.path, column="attributes", found=name, allowed=s.attributes)
        self.product = s.facts.scene == "product"
        self.S, self.M = 1 if self.product else items, 1 + values
        self._said = [a for a, name in enumerate(s.attributes) if not attributes or name in attributes]
        root = s.ontology.categories[s.vocab.key[s.root]].name
        noun = s.facts.noun if self.product else root
        self._grammar = Grammar(s.vocab, s.root, noun)
        self._phrases: dict[tuple[int, ...], str] = {}
        self._stream = stream(seed, "captions")
        self._pictures = np.flatnonzero(np.diff(s.start) > 0)
        if not len(self._pictures):
            raise InputError("no picture has an item to speak of", file=catalog.path)
        names = np.array(("train", "val", "test"))[s.split[self._pictures]]
        self.ids, self.splits = [s.image_ids[at] for at in self._pictures], names.tolist()

    def __len__(self) -> int:
        return len(self.ids)

    def facts(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(P, K) int64 each: a bit for each item that fulfils a clause, and for each that could."""
        masks = self.scenes.masks[self._pictures[np.asarray(rows, np.int64)]]  # P K; what holds lies in the low half
        half = masks.dtype.itemsize * 4
        sure, may = masks & masks.dtype.type((1 << half) - 1), masks >> masks.dtype.type(half)
        return torch.from_numpy(sure.astype(np.int64)), torch.from_numpy(may.astype(np.int64))

    def caption(self, row: int, epoch: int | None) -> Caption:
        """The caption of a picture in an epoch; None: the one of evaluation, which says as much as it may."""
        found = self._items(row)
        if epoch is None:
            frame, parts = 0, [Item(item.noun, item.values[: self.M - 1]) for item in found[: self.S]]
        else:
            bits = mix(self._stream, np.array([(epoch << 32) + int(self._pictures[row])], np.uint64))
            frame = int(again(bits, 0)[0] % len(self._frames))
            parts = [self._drawn(item, again(bits, 2 + n)) for n, item in enumerate(self._some(found, bits))]
        said = [self._clauses(item) for item in parts]
        order = sorted(range(len(said)), key=lambda n: said[n])
        closed = np.ones(self.S, bool)
        if not self.product:
            closed[: len(order)] = [self.scenes.closed[parts[n].noun] for n in order]
        table = np.full((self.S, self.M), NOTHING, np.int64)
        for row_, n in enumerate(order):
            table[row_, : len(said[n])] = said[n]
        return Caption(self._frames[frame].format(listed([self._phrase(item) for item in parts])), table, closed)

    @property
    def _frames(self) -> tuple[str, ...]:
        return FRAMES["product" if self.product else "outfit"]

    def _items(self, row: int) -> list[Item]:
        """What can be said of a picture's items, the largest first."""
        s, at = self.scenes, self._pictures[row]
        rows = range(s.start[at], s.start[at] + 1 if self.product else s.start[at + 1])
        return [Item(self._noun(int(s.leaf[i])), self._values(i)) for i in rows]

    def _noun(self, leaf: int) -> int:
        """The category, or the nearest above it whose name is spoken."""
        onto, vocab = self.scenes.ontology, self.scenes.vocab
        for key in (vocab.key[leaf], *onto.ancestors(vocab.key[leaf])):
            if onto.categories[key].spoken and not onto.categories[key].abstract:
                return vocab.category[key]
        return self.scenes.root

    def _values(self, item: int) -> tuple[int, ...]:
        s, found = self.scenes, []
        for a in self._said:
            if s.state[item, a] == S_PRESENT:
                value, name = int(s.value[item, a]), s.attributes[a]
                members = s.vocab.members[value] or (value,)
                keys = {s.vocab.key[m].split("/", 1)[1]: m for m in members}
                found += sorted(keys[key] for key in distinct(s.ontology, name, list(keys)))
        return tuple(found)

    def _some(self, items: list[Item], bits: Array) -> list[Item]:
        """1 to S of the items, in their order."""
        return [items[n] for n in sorted(_draw(len(items), 1, self.S, again(bits, 1)))]

    def _drawn(self, item: Item, bits: Array) -> Item:
        """The item with some of its values; where it has any, at least one is said."""
        kept = _draw(len(item.values), min(1, self.M - 1), self.M - 1, bits)
        return Item(item.noun, tuple(item.values[n] for n in sorted(kept)))

    def _clauses(self, item: Item) -> list[int]:
        return sorted(int(self.scenes.clause[number]) for number in (item.noun, *item.values))

    def _phrase(self, item: Item) -> str:
        ids = (*item.values, item.noun)
        if ids not in self._phrases:
            self._phrases[ids] = self._grammar.say("a", ids)
        return self._phrases[ids]


class CaptionData(PictureData):
    """Pictures with captions made of what the catalogue says of their items.

    Args:
        catalog: See `PictureData`, also for `options`. attributes, items, values: What is said; see `Captions`.
    """

    def __init__(self, catalog: str, attributes: Sequence[str] = (), items: int = 4, values: int = 3, **options: Any):
        super().__init__(catalog, **options)
        if self.features is not None:
            raise InputError("cached features cannot be fine-tuned", column="features", found=self.features)
        self.captions = Captions(self.source, self.seed, attributes, items, values)

    def rows(self, split: str) -> tuple[list[str], dict[str, Any]]:
        return [i for i, name in zip(self.captions.ids, self.captions.splits, strict=True) if name == split], {}

    def prepare(self, preprocess: Preprocess) -> None:
        super().prepare(preprocess)
        for split, examples in self.examples.items():
            captioned: Any = Captioned(examples, self.captions, changing=split == "train")
            self.examples[split] = captioned


class Captioned(Dataset[dict[str, Any]]):
    """Examples with a caption each.

    Args:
        examples: n pictures. captions: Of their catalogue. changing: Another caption each epoch.
    """

    def __init__(self, examples: Examples, captions: Captions, changing: bool):
        self.examples, self.captions, self.changing = examples, captions, changing
        at = {name: row for row, name in enumerate(captions.ids)}
        self._rows = [at[name] for name in examples.pictures.ids]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Any]:
        """The batch of `Examples` with `caption`, B texts, `said` (B, S, M), `closed` (B, S), `sure`, `may` (B, K)."""
        batch = self.examples.__getitems__(keys)
        found = [self.captions.caption(self._rows[row], epoch if self.changing else None) for epoch, row in keys]
        batch["caption"] = [one.text for one in found]
        batch["said"] = torch.from_numpy(np.stack([one.said for one in found]))
        batch["closed"] = torch.from_numpy(np.stack([one.closed for one in found]))
        batch["sure"], batch["may"] = self.captions.facts([self._rows[row] for _, row in keys])
        return batch


def listed(parts: Sequence[str]) -> str:
    """A list in English: a coat, a shirt and a pair of jeans."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def truths(said: Tensor, closed: Tensor, sure: Tensor, may: Tensor) -> tuple[Tensor, Tensor]:
    """(P, T) bool each: whether a caption holds of a picture, and whether it could.

    Args:
        said: (T, S, M) int64 and closed: (T, S) bool of captions. sure, may: (P, K) int64 of pictures.
    """
    step = max(1, _CHUNK // max(1, len(sure) * said.shape[1] * said.shape[2]))
    holds, could = [], []
    for lo in range(0, len(said), step):
        part = said[lo : lo + step]
        found = [_fulfilled(part, bits) for bits in (sure, may)]  # (P, t, S)
        holds.append(found[0].all(2))
        could.append((found[1] | ~closed[lo : lo + step]).all(2))
    return torch.cat(holds, 1), torch.cat(could, 1)


def same(said: Tensor, other: Tensor) -> Tensor:
    """(N, T) bool: which of (N, S, M) and (T, S, M) captions say the same."""
    _, group = torch.cat([said, other]).flatten(1).unique(dim=0, return_inverse=True)
    return group[: len(said), None] == group[None, len(said) :]


def _fulfilled(said: Tensor, bits: Tensor) -> Tensor:
    """(P, T, S) bool: whether some item of a picture has all that is said of an item."""
    found = bits[:, said.clamp(min=0)].masked_fill(said == NOTHING, -1)  # P T S M; -1 has all bits
    whole = found[..., 0]
    for m in range(1, said.shape[2]):
        whole = whole & found[..., m]
    return whole != 0


def _draw(count: int, least: int, most: int, bits: Array) -> list[int]:
    """`least` to `most` of `count` numbers, all sizes and all choices equally likely."""
    if count == 0 or most == 0:
        return []
    most = min(count, most)
    size = least + int(again(bits, 0)[0] % (most - least + 1))
    place = [int(again(bits, 1 + n)[0]) for n in range(count)]
    return sorted(range(count), key=lambda n: place[n])[:size]
