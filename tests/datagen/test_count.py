"""From units to places kept: which units there are, how blocks are cut, and that the lowest keys of a cell are kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionkit import recipes
from fashionkit.datagen.balance import equal_sides
from fashionkit.datagen.context import Context, links, phrasings
from fashionkit.datagen.count import (
    KEY_BITS,
    count_unit,
    kept_by_block,
    lowest,
    read_count,
    read_selection,
    select_unit,
)
from fashionkit.datagen.packs import Template, load_packs
from fashionkit.datagen.propose import Candidates, option_slots
from fashionkit.datagen.scene import load_scenes
from fashionkit.datagen.spec import RunSpec


@pytest.fixture(scope="module")
def context(outfits: Path) -> Context:
    pack = load_packs([recipes.find("datagen/packs", "core")])
    return Context(load_scenes(outfits), pack, RunSpec(shard_images=20, drop=["C1.modified"]))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=200), st.data())
def test_the_lowest_keys_of_each_cell_are_kept(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    """Small keys give many equal ones; large ones fill the buckets in which they are sorted."""
    large = data.draw(st.booleans())
    keep = np.array(data.draw(st.lists(st.integers(0, 60), min_size=6, max_size=6)))
    cell = np.array([c for c, _ in rows], np.uint32)
    key = np.array([(k << (KEY_BITS - 6)) + 3 if large else k for _, k in rows], np.uint32)
    wanted = np.zeros(len(rows), bool)
    for number in range(6):
        mine = np.flatnonzero(cell == number)
        wanted[mine[np.argsort(key[mine], kind="stable")][: keep[number]]] = True
    assert lowest(cell, key, keep).tolist() == wanted.tolist()


def test_many_random_keys() -> None:
    rng = np.random.default_rng(0)
    cell = rng.integers(0, 50, 20_000).astype(np.uint32)
    key = rng.integers(0, 2**KEY_BITS, 20_000).astype(np.uint32)
    keep = rng.integers(0, 600, 50)
    kept = lowest(cell, key, keep)
    for number in range(50):
        mine = np.sort(key[cell == number])
        assert np.sort(key[kept & (cell == number)]).tolist() == mine[: keep[number]].tolist()


def test_blocks_cover_all_pictures_once_and_cross_no_split(context: Context) -> None:
    pictures = [i for lo, hi in context.blocks for i in range(lo, hi)]
    assert pictures == list(range(len(context.scenes.image_ids)))
    for lo, hi in context.blocks:
        assert 0 < hi - lo <= 20 and len(set(context.scenes.split[lo:hi].tolist())) == 1


def test_units_are_templates_with_attributes_that_the_catalogue_has(context: Context) -> None:
    assert len(set(context.units)) == len(context.units)
    ids = Counter(context.template(u).id for u in context.units)
    assert ids["B2.verify"] == 4 and ids["C7.list"] == 1 and ids["C1.query"] == 3 and ids["B1.exist"] == 1
    assert ids["G1.query"] == 1, "a year cannot be seen"
    assert not ids["C1.modified"] and not ids["B2.two"], "left out by the spec; for products only"
    for unit in context.units:
        assert len(set(unit.attributes)) == len(unit.attributes), "no attribute stands beside itself"
    pairs = [u.attributes for u in context.units if context.template(u).id == "B4.and"]
    assert len(pairs) == 6 == len({frozenset(p) for p in pairs}), "red and striped is striped and red"


def test_what_is_tied_follows_a_unit_of_the_same_attributes(context: Context) -> None:
    tied = links(context)
    assert len(tied) > 8
    for follower, leader in tied.items():
        one, two = context.units[follower], context.units[leader]
        assert context.template(one).tie == context.template(two).id and one.attributes == two.attributes


def test_phrasings_are_no_more_than_there_are_texts(context: Context) -> None:
    assert set(phrasings(context).tolist()) == {1}
    many = Context(context.scenes, context.pack, RunSpec(phrasings=16))
    assert phrasings(many).tolist() == [sum(not p.held_out for p in t.paraphrases) for t in many.pack.templates]


def test_selecting_keeps_what_was_asked_for_in_each_cell(context: Context, tmp_path: Path) -> None:
    wanted = ("B2.verify", "B4.items_or", "C2.choose", "C1.query")
    for number in (n for n, u in enumerate(context.units) if context.template(u).id in wanted):
        count_unit(context, number, tmp_path)
        cells = read_count(context, number, tmp_path).cells
        equal_sides(cells)
        cells.keep = -(-cells.keep // 2)
        select_unit(context, number, tmp_path, cells)
        unit, t, kept, valid = context.units[number], context.template(context.units[number]), set(), Counter[int]()
        for block, (lo, hi) in enumerate(context.blocks):
            rows = read_selection(tmp_path, number, block)
            assert sum(kept_by_block(tmp_path, number)[block]) == len(rows.get("image", []))
            kept |= {(*row,) for row in zip(*(rows[k].tolist() for k in columns_of(t)), strict=True)} if rows else set()
            c = context.proposer.propose(unit, lo, hi)
            judged = context.judge.judge(unit, c)
            code = context.judge.codes(unit, context.judge.layout(unit), c, judged)
            slots = [c.batch.slots[name].tolist() for name in names(t)]
            for cell, image, answer, *ids in zip(
                code, c.batch.image.tolist(), judged.answer.tolist(), *slots, strict=True
            ):
                row = (image, *ids, answer)
                turned = (
                    (image, *ids[:-2], *ids[:-3:-1], answer) if t.balance == "choice" or t.anchor == "pair" else row
                )
                valid[int(cell)] += bool(answer) and (row in kept or turned in kept)
        assert sum(cells.keep) == len(kept) and kept
        assert valid == Counter({c: n for c, n in zip(cells.code.tolist(), cells.keep.tolist(), strict=True) if n})


def names(t: Template) -> list[str]:
    """Names of the slots that a sample stores."""
    return [slot.name for slot in t.stored_slots]


def columns_of(t: Template) -> list[str]:
    """Columns that tell samples of a template apart."""
    return ["image", *(f"slot{i}" for i in range(len(t.stored_slots))), "answer"]


def test_the_right_option_stands_first_in_every_second_sample(context: Context, tmp_path: Path) -> None:
    seen = 0
    for number in (n for n, u in enumerate(context.units) if context.template(u).balance == "choice"):
        count_unit(context, number, tmp_path)
        cells = read_count(context, number, tmp_path).cells
        equal_sides(cells)
        select_unit(context, number, tmp_path, cells)
        t = context.template(context.units[number])
        one, two = (f"slot{names(t).index(name)}" for name in option_slots(t))
        rows = [r for b in range(len(context.blocks)) if (r := read_selection(tmp_path, number, b))]
        for split in {int(s) for r in rows for s in r["split"]}:
            first = np.concatenate([(r[one] == r["answer"])[r["split"] == split] for r in rows])
            second = np.concatenate([(r[two] == r["answer"])[r["split"] == split] for r in rows])
            assert (first ^ second).all() and abs(int(first.sum()) - int(second.sum())) <= 1
            seen += len(first)
    assert seen > 100


def test_thinning_keeps_a_share_of_the_anchors_and_the_same_in_any_block(context: Context) -> None:
    for name in ("B2.verify", "B4.items_or", "G1.query"):
        unit = next(u for u in context.units if context.template(u).id == name)
        images = len(context.scenes.image_ids)
        whole = anchors(context.proposer.propose(unit, 0, images))
        context.proposer.rates = {unit: 0.3}
        few = anchors(context.proposer.propose(unit, 0, images))
        halves = [anchors(context.proposer.propose(unit, lo, hi)) for lo, hi in ((0, 11), (11, images))]
        context.proposer.rates = {}
        # What two pairs of one picture would ask alike is asked of the first; without that one, of the second.
        assert (few < whole or name == "B4.items_or") and set.union(*halves) == few
        assert 0.1 < len(few) / len(whole) < 0.6


def anchors(c: Candidates) -> set[tuple[int, int]]:
    """What the candidates are about."""
    return set(zip(c.row.tolist(), c.row2.tolist(), strict=True))
