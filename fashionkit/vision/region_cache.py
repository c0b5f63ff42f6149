"""Masks on disk, so that a slow provider is asked once for each picture.

provider's key, hash of the picture, id, size ──► file name ──► bits, compressed, with a checksum
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from fashionkit.tables import write_atomic
from fashionkit.vision.region_base import ITEMS, Masks, Picture, RegionProvider, digest, pixels_of, regions_of


class MaskCache:
    """Masks on disk, one small file a picture and provider: bits, compressed, with a checksum.

    Files are whole or absent, and several processes may share the folder. What is damaged is made again.

    Args:
        folder: Where the files are; made when needed.
    """

    MAGIC: Final = b"fkmask1\n"

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def regions(self, provider: RegionProvider, image: Picture, image_id: str, sha256: str | None = None) -> Masks:
        """`provider.regions`, worked out once.

        Args:
            provider: Whose masks. image: The picture. image_id: Its id.
            sha256: Of its encoded bytes, where known; otherwise its pixels are hashed.

        Returns:
            (4, H, W) bool.
        """
        return self.batch(provider, [image], [image_id], None if sha256 is None else [sha256])[0]

    def batch(
        self,
        provider: RegionProvider,
        images: Sequence[Picture],
        image_ids: Sequence[str],
        sha256s: Sequence[str] | None = None,
    ) -> list[Masks]:
        """As `regions` for several pictures; those that are not there yet are asked for in one pass (`regions_of`)."""
        hashes = [hashlib.sha256(pixels_of(i).tobytes()).hexdigest() for i in images] if sha256s is None else sha256s
        sizes = [pixels_of(image).shape[:2] for image in images]
        each = zip(hashes, image_ids, sizes, strict=True)
        paths = [self.path(provider, sha256, image_id, size) for sha256, image_id, size in each]
        found = [self._read(path, (len(ITEMS), *size)) for path, size in zip(paths, sizes, strict=True)]
        rows = [row for row, masks in enumerate(found) if masks is None]
        made = regions_of(provider, [images[row] for row in rows], [image_ids[row] for row in rows]) if rows else []
        for row, masks in zip(rows, made, strict=True):
            shape = (len(ITEMS), *sizes[row])
            assert masks.shape == shape and masks.dtype == np.bool_, f"{provider.key} broke its promise"
            self._write(paths[row], masks)
            found[row] = masks
        return [masks for masks in found if masks is not None]

    def path(self, provider: RegionProvider, sha256: str, image_id: str, size: tuple[int, ...]) -> Path:
        """The file of a picture. The id counts, as some providers go by it and equal pictures may have two."""
        name = digest(provider.key, sha256, image_id, size)
        return self.folder / name[:2] / f"{name}.masks"

    def _read(self, path: Path, shape: tuple[int, ...]) -> Masks | None:
        """None where there is no file, or none that is whole."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        begin = len(self.MAGIC) + 32
        digest, packed = data[len(self.MAGIC) : begin], data[begin:]
        if not data.startswith(self.MAGIC) or hashlib.sha256(packed).digest() != digest:
            return None
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        return np.unpackbits(bits, count=math.prod(shape)).astype(bool).reshape(shape)

    def _write(self, path: Path, masks: Masks) -> None:
        packed = zlib.compress(np.packbits(masks).tobytes(), 6)
        data = self.MAGIC + hashlib.sha256(packed).digest() + packed
        write_atomic(path, lambda temporary: temporary.write_bytes(data), sync=False)
