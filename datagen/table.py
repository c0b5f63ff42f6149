"""Writes the table "What a spec makes" of datagen/README.md from the manifests of finished question sets.

python datagen/table.py drawn=out/drawn-questions products=out/products-questions street=out/street-questions
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from fashionkit.datagen.samples import SAMPLE_SPLITS
from fashionkit.tables import InputError, read_manifest, write_text

PAGE = Path(__file__).resolve().parent / "README.md"
HEAD = ("spec", "pictures", "programs", "samples", "by split", "largest family", "seed", "made by", "content")
BLOCK = re.compile(r"(<!-- made by: .*? -->\n)(.*?)(<!-- end -->)", re.S)


def row(name: str, folder: Path) -> list[str]:
    """The cells of one question set."""
    manifest = read_manifest(folder, "questions")
    counts = manifest.counts
    splits = ", ".join(f"{split} {counts['splits'][split]:,}" for split in SAMPLE_SPLITS if counts["splits"].get(split))
    family, most = max(counts["families"].items(), key=lambda pair: pair[1])
    share = f"{family}, {most / sum(counts['families'].values()):.1%}"
    figures = [f"{number:,}" for number in (counts["images"], counts["programs"], sum(counts["splits"].values()))]
    seed = str(manifest.params["seed"])
    return [f"`{name}`", *figures, splits, share, seed, manifest.made_by, f"`{manifest.content_hash()[:16]}`"]


def main(arguments: list[str]) -> None:
    """Replaces the table on the page."""
    rows = []
    for argument in arguments:
        name, _, folder = argument.partition("=")
        if not folder:
            raise InputError("a spec and its folder are needed: drawn=out/drawn-questions", found=argument)
        rows.append(row(name, Path(folder)))
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    table = "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n"
    page, made = BLOCK.subn(lambda m: m[1] + table + m[3], PAGE.read_text(encoding="utf-8"))
    assert made == 1, f"{PAGE} has lost the marks between which the table stands"
    write_text(PAGE, page)
    print(table.strip())


if __name__ == "__main__":
    main(sys.argv[1:])
