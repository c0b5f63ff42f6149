"""From records to what a model is given: text as Python strings, pictures decoded once.

RECORD[n] ─┬─► Wording ─► question          ┌─► columns of n
           ├─► tables ─► answer, family, …  ┤
           └─► distinct images ─► Pictures ─► transform ─► images of g ≤ n, and which of them each row has
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.reading.pictures import Pictures
from fashionkit.datagen.reading.records import SplitRecords
from fashionkit.datagen.reading.wording import Wording
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
Columns = dict[str, Any]
DAMAGED = ("raise", "skip")
AT_ONCE = 8192  # questions that are written in one go where all are


class Reader:
    """One split of a question set, and what its ids mean.

    Args:
        path: The question set. split: One of its splits, or `absent`. family: One question family, several, or all.
        catalog: Catalogue folder with the pictures; text alone is read without one.
        transform: Called with each picture (PIL, RGB, upright); a module-level function where workers are spawned.
        damaged: What to do about a picture that cannot be decoded: `raise`, or `skip` and count its samples.
        cache: Folder into which embedded pictures are unpacked, once; they are held in memory without one.

    Raises:
        InputError: No such set, split or family; the catalogue is not the set's, or lacks pictures.
    """

    def __init__(
        self,
        path: str | Path,
        split: str = "train",
        family: str | Sequence[str] | None = None,
        catalog: str | Path | None = None,
        transform: Callable[[Any], Any] | None = None,
        damaged: str = "raise",
        cache: str | Path | None = None,
    ):
        if damaged not in DAMAGED:
            raise InputError("no such way to treat damaged pictures", found=damaged, allowed=DAMAGED)
        self.store = VQAStore(path)
        self.samples = SplitRecords(self.store, split, family)
        self.transform, self.damaged = transform, damaged
        self._wording = Wording(self.store.renderer)
        self._answers = np.array(self.store.vocab.text, object)
        self._families = np.array([t.family for t in self.store.pack.templates], object)
        self._templates = np.array([t.id for t in self.store.pack.templates], object)
        self._image_ids = np.array(self.store.image_ids, object)
        self._pictures: Pictures | None = None
        if catalog is not None:
            found = self.store.catalog(catalog)
            self._pictures = Pictures(found, self.store.image_ids, self.samples.images(), cache)

    @property
    def has_pictures(self) -> bool:
        """Whether samples come with pictures."""
        return self._pictures is not None

    def columns(self, records: Array) -> Columns:
        """The samples as columns.

        Args:
            records: (n,) of `RECORD`.

        Returns:
            `qid`, `answer_id`: (n,) int64; `image_id`, `question`, `answer`, `family`, `template`: n strings. With
            pictures also `images`: g of them, one for each image, in the order in which they come first; `image_of`:
            (n,) int64, positions in `images`; `skipped`: how many samples were left out with damaged pictures.

        Raises:
            InputError: A picture is damaged, and `damaged` is `raise`.
        """
        if self._pictures is None:
            return self._text(records)
        image, first, image_of = np.unique(records["image"], return_index=True, return_inverse=True)
        order = np.argsort(first)  # as they come first
        images = [self._picture(number) for number in image[order].tolist()]
        image_of = np.argsort(order)[image_of]
        good = np.array([one is not None for one in images], bool)
        kept = good[image_of]
        columns = self._text(records[kept])
        columns["images"] = [one[0] for one in images if one is not None]
        columns["image_of"] = (np.cumsum(good) - 1)[image_of[kept]]
        columns["skipped"] = int(len(records) - kept.sum())
        return columns

    def prepare(self, records: Array) -> None:
        """Writes the questions of (n,) records and keeps them, while there is room."""
        for lo in range(0, len(records), AT_ONCE):
            if self._wording.full:
                return
            some = records[lo : lo + AT_ONCE]
            self._wording.questions(some["template"], some["paraphrase"], some["slots"])

    def _text(self, records: Array) -> Columns:
        template, answer = records["template"], records["answer"]
        return {
            "qid": records["qid"].copy(),
            "image_id": self._image_ids[records["image"]].tolist(),
            "question": self._wording.questions(template, records["paraphrase"], records["slots"]),
            "answer": self._answers[answer].tolist(),
            "answer_id": answer.astype(np.int64),
            "family": self._families[template].tolist(),
            "template": self._templates[template].tolist(),
        }

    def _picture(self, number: int) -> tuple[Any] | None:
        """The transformed picture, in a tuple; None where it is damaged and may be skipped."""
        assert self._pictures is not None
        try:
            image = self._pictures.open(number)
        except InputError:
            if self.damaged == "raise":
                raise
            return None
        return (image if self.transform is None else self.transform(image),)


def rows_of(columns: Columns) -> list[dict[str, Any]]:
    """Columns as one dict a sample, each with its `image` where there are pictures."""
    plain = {name: values for name, values in columns.items() if name not in ("images", "image_of", "skipped")}
    plain |= {name: plain[name].tolist() for name in ("qid", "answer_id")}
    if "images" in columns:
        plain["image"] = [columns["images"][at] for at in columns["image_of"].tolist()]
    return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]
