"""The frame of an import: folders that are begun, finished or another's, and the same bytes however the work is cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fashionkit.catalog import importer, staging
from fashionkit.tables import MANIFEST, InputError, read_manifest, verify


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "SHARD", 4)


def test_a_finished_catalogue_is_left_alone(shop: Any, contents: Callable[[Path], dict[str, str]]) -> None:
    first = shop.run()
    before = contents(shop.out)
    again = shop.run()
    assert again.was_finished and again.tally == first.tally and contents(shop.out) == before
    shop.rows[0]["colour"] = "Green"
    with pytest.raises(InputError, match=r"holds a catalogue made from another source\n"):
        shop.run()
    shop.mapping += "# a word more\n"
    with pytest.raises(InputError, match=r"another mapping and another source and other settings \(max_pixels\)"):
        shop.run(max_pixels=10_000)
    assert contents(shop.out) == before
    assert shop.run(overwrite=True).failure is None and contents(shop.out) != before


def test_the_report_reads_the_same_when_it_was_finished_before(shop: Any) -> None:
    shop.mapping = shop.mapping.replace("column: type", "column: type, skip: [Card]")
    shop.rows[3]["type"], shop.rows[5]["sku"], shop.rows[7]["colour"] = "Card", "p04", "\x1b[31mRouge"
    (shop.folder / "photos" / "9.jpg").write_bytes(b"GIF89a")
    first, again = shop.run(), shop.run()
    reasons = [line.split(":")[0].strip() for line in again.lines()[1:5]]
    assert reasons == ["duplicate_id", "image_format", "skipped", "unmapped_value"]
    assert again.was_finished and first.lines()[: len(again.lines())] == again.lines()
    assert "\x1b" not in "".join(again.lines())


def test_a_bad_source_costs_no_finished_catalogue(shop: Any, contents: Callable[[Path], dict[str, str]]) -> None:
    shop.run()
    before = contents(shop.out)
    bad = shop.folder / "bad.csv"
    bad.write_text("sku,file,typ,colour\n1,1.jpg,Jeans,Red\n")
    with pytest.raises(InputError, match=r"no such column[\s\S]*hint: .*shop.yaml, line 7 \(`category.column`\)"):
        shop.run(bad, overwrite=True)
    assert verify(shop.out) == [] and contents(shop.out) == before
    assert shop.run().was_finished


def test_nothing_of_others_is_removed(shop: Any) -> None:
    shop.out.mkdir()
    (shop.out / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError):
            shop.run(overwrite=overwrite)
    assert (shop.out / "thesis.txt").read_text() == "years of work"


def test_an_import_that_could_not_begin_can_be_tried_again(shop: Any) -> None:
    empty = shop.folder / "empty.csv"
    empty.write_text("sku,file,type,colour\n")
    with pytest.raises(InputError):
        shop.run(empty)
    assert shop.run().failure is None


@pytest.mark.usefixtures("small_shards")
def test_the_bytes_are_the_same_for_any_number_of_workers(
    shop: Any, contents: Callable[[Path], dict[str, str]]
) -> None:
    shop.rows[5]["type"], shop.rows[9]["sku"] = "Spoon", "p00"
    source = shop.write()
    for workers in (1, 2, 3):
        shop.run(source, out=shop.folder / str(workers), workers=workers)
    one = contents(shop.folder / "1")
    assert len([name for name in one if name.startswith("images/")]) == 8
    assert contents(shop.folder / "2") == one and contents(shop.folder / "3") == one


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_import_continues(
    shop: Any, contents: Callable[[Path], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shop.write()
    shop.run(source, out=shop.folder / "whole")
    made: list[int] = []
    real = importer._make

    def failing(part: int) -> int:
        made.append(part)
        if len(made) == 4:
            raise OSError("the disk is full")
        return real(part)

    monkeypatch.setattr(importer, "_make", failing)
    with pytest.raises(OSError, match="full"):
        shop.run(source)
    assert not (shop.out / MANIFEST).exists()
    shop.run(source)
    assert made == [0, 1, 2, 3, 3, 4, 5, 6, 7]
    assert contents(shop.out) == contents(shop.folder / "whole")


KILLED = """
import sys, time
from pathlib import Path
from fashionkit.catalog import importer, staging
staging.SHARD = 2
real = importer._make
def slow(part):
    time.sleep(0.03)
    return real(part)
importer._make = slow
source, out, mapping = map(Path, sys.argv[1:])
importer.import_catalog(source, out, mapping, importer.ImportOptions(workers=2))
"""


def test_a_killed_import_continues(
    shop: Any, contents: Callable[[Path], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "SHARD", 2)
    source = shop.write()
    shop.run(source, out=shop.folder / "whole")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", KILLED, str(source), str(shop.out), str(shop.folder / "shop.yaml")]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 30
    while len(list(shop.out.glob("images/part-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(shop.out.glob("images/part-*")))
    assert 3 <= done < 15 and not (shop.out / MANIFEST).exists()
    shop.run(source)
    assert contents(shop.out) == contents(shop.folder / "whole")
    assert read_manifest(shop.out).params["shard"] == 2
