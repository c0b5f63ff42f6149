"""Entailed questions: all that the rules state and the slow interpreter confirms, and nothing else, is stored."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit import recipes
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.datagen import entail
from fashionkit.datagen.balance import BalanceOptions
from fashionkit.datagen.entail import CONTRADICTED, ENTAILED, MOST, TOO_MANY, UNSETTLED, UNSPOKEN, distinct
from fashionkit.datagen.judge import SPLIT_NAMES
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError, verify
from tests.datagen.conftest import ONTOLOGY, Item, Picture, fingerprint, made, make_catalog, random_pictures
from tests.datagen.slow_entailment import Rule, follows, rules, settled, speakable
from tests.datagen.slow_interpreter import Interpreter, Pictures
from tests.datagen.slow_questions import Questions

Row = dict[str, Any]
# Categories that nobody names, and adjectives that before a noun make the name of another category.
WORDS = ONTOLOGY.replace("  umbrella: {", "  umbrella: {spoken: false, ").replace(
    "  boots: {", "  boots: {spoken: false, "
)
WORDS = WORDS.replace("  trousers: {", "  trousers: {synonyms: [red uniform], ")


@dataclass
class Followed:
    """A set with what the rules state of its samples, run slowly."""

    path: Path
    questions: Questions
    stored: list[Row]
    expected: list[tuple[int, Row]]
    seen: set[Rule]
    refused: dict[str, Counter[str]]


def stored(path: Path) -> list[Row]:
    """Rows of all entailed questions with their splits, in order."""
    parts = [(s, p) for s in SPLIT_NAMES for p in sorted((path / "entailed" / s).glob("part-*.parquet"))]
    return [{"split": s, **r} for s, p in parts for r in pq.read_table(p, partitioning=None).to_pylist()]


def followed(catalog: Path, path: Path) -> Followed:
    """Works out slowly what follows from the samples of a set."""
    run, questions = Interpreter(Pictures(catalog)), Questions(path)
    manifest = json.loads((path / "manifest.json").read_text())
    ids = {said: n for n, said in questions.ids.items()}
    found = Followed(path, questions, stored(path), [], set(), defaultdict(Counter))
    programs: set[tuple[Any, ...]] = set()
    for s in sorted(questions.samples, key=lambda s: s.qid):
        if s.split not in manifest["params"]["entail"] or (s.image, s.template, s.slots) in programs:
            continue  # a further wording of the same program
        programs.add((s.image, s.template, s.slots))
        image, name = questions.images[s.image]["image_id"], questions.templates[s.template]["id"]
        for f in follows(questions, run, s):
            answer = settled(run, questions, f, image)
            if not speakable(questions, run.words, f):
                found.refused[name][UNSPOKEN] += 1
            elif answer != f.answer:
                found.refused[name][UNSETTLED if answer is None else CONTRADICTED] += 1
            else:
                found.seen.add(f.rule)
                slots = {f"slot{i}": ids[said] for i, said in enumerate(f.slots)}
                row = {"split": s.split, "source": s.qid, "image": s.image, "template": f.template}
                row |= {f"slot{i}": slots.get(f"slot{i}", 0) for i in range(4)} | {"answer": ids[f.answer]}
                found.expected.append((s.qid, row))
    return found


def judged(pictures: list[Picture]) -> list[Picture]:
    """The pictures, as many in the splits that are followed as in `train`, in groups of two."""
    for number, picture in enumerate(pictures):
        picture.split, picture.group = ("train", "test", "train", "val")[number // 2 % 4], number // 2
    return pictures


def shop(count: int) -> list[Picture]:
    """Products of few kinds and values, so that questions of two values have their counterparts."""
    rng, pictures = np.random.default_rng(4), []
    for number in range(count):
        kind = str(rng.choice(["shirt", "coat", "skirt", "boots"]))
        values = {"colour": str(rng.choice(["red", "blue"])), "pattern": str(rng.choice(["plain", "striped"]))}
        values["details"] = [["zip"], ["bow"], ["bow", "zip"]][rng.integers(3)]
        if kind in ("shirt", "coat"):
            values["sleeves"] = str(rng.choice(["short", "long", "unknown"]))
        labels = {"style": str(rng.choice(["casual", "formal", "sporty"]))}
        pictures.append(Picture(f"p{number:03d}", [Item(kind, values)], labels=labels))
    return judged(pictures)


def tops(count: int) -> list[Picture]:
    """Outfits with two tops, which only their colours tell apart, and a skirt that shares one of them."""
    pictures = []
    for number in range(count):
        worn, over = ("shirt", "uniform") if number % 2 else ("uniform", "shirt")
        colours = ("red", "blue") if number // 2 % 2 else ("blue", "red")
        items = [Item(worn, {"colour": colours[0]}), Item(over, {"colour": colours[1]})]
        pictures.append(Picture(f"t{number:03d}", [*items, Item("skirt", {"colour": colours[0]})]))
    return pictures


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> dict[str, Path]:
    """Outfits of which not all is known, and products."""
    base = tmp_path_factory.mktemp("catalogues")
    pictures = judged(random_pictures(base / "outfits", 14, 11, one=False) + tops(8))
    all_known = {"closed_categories": ["item"], "countable": ["item"], "compositions": (("bag", "colour", "red"),)}
    facts = {"scene": "product", "noun": "product", "sole_categories": ["footwear"], "alone_categories": ["item"]}
    return {
        "outfits": make_catalog(base / "outfits", pictures, ontology=WORDS, **all_known),
        "products": make_catalog(base / "products", shop(40), **facts),
    }


@pytest.fixture(scope="module")
def sets(catalogs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> dict[str, Followed]:
    """What follows from the samples of each catalogue, and of a part of `train` among them."""
    base, found = tmp_path_factory.mktemp("sets"), {}
    for name, catalog in catalogs.items():
        made(catalog, base / name, entail=list(SPLIT_NAMES), phrasings=2 if name == "products" else 1)
        found[name] = followed(catalog, base / name)
    return found


def counted(path: Path) -> dict[str, Counter[str]]:
    """What the table `rejects` says of entailed questions."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in pq.read_table(path / "rejects").to_pylist():
        if row["reason"] in (UNSETTLED, UNSPOKEN, CONTRADICTED, TOO_MANY):
            found[row["template"]][row["reason"]] += row["count"]
    return found


def plain(row: Row) -> Row:
    """What a rule decides of a row."""
    return {k: v for k, v in row.items() if k not in ("qid", "paraphrase")}


def unique(rows: list[Row]) -> Iterator[Row]:
    """Rows in order, equal ones of one source once."""
    known: set[tuple[Any, ...]] = set()
    for row in rows:
        if (key := tuple(row.values())) not in known:
            known.add(key)
            yield row


@pytest.mark.parametrize("name", ["outfits", "products"])
def test_what_is_stored_is_what_the_slow_interpreter_confirms(sets: dict[str, Followed], name: str) -> None:
    found = sets[name]
    assert len(found.stored) > 1000
    assert [plain(row) for row in found.stored] == list(unique([row for _, row in found.expected]))


@pytest.mark.slow
def test_a_drawn_catalogue_has_what_the_slow_interpreter_confirms(tmp_path: Path) -> None:
    draw_catalog(tmp_path / "catalog", DrawOptions(images=40, pictures=False, workers=1))
    made(tmp_path / "catalog", tmp_path / "set", workers=2)
    found = followed(tmp_path / "catalog", tmp_path / "set")
    assert len(found.stored) > 1000
    assert [plain(row) for row in found.stored] == list(unique([row for _, row in found.expected]))
    assert all(set(reasons) <= {UNSETTLED, UNSPOKEN} for reasons in found.refused.values())
    assert found.refused == counted(found.path)


@pytest.mark.parametrize("name", ["outfits", "products"])
def test_what_is_left_out_is_counted(sets: dict[str, Followed], name: str) -> None:
    reasons = counted(sets[name].path)
    assert reasons == sets[name].refused
    assert not any(CONTRADICTED in why for why in reasons.values()), "no rule of the core pack is unsound"
    assert any(UNSETTLED in why for why in reasons.values())


def test_every_rule_of_the_core_pack_gives_something(sets: dict[str, Followed]) -> None:
    stated = {rule for found in sets.values() for rule in rules(found.questions)}
    seen = {rule for found in sets.values() for rule in found.seen}
    assert len(stated) > 80
    assert stated - seen == set()
    refused = Counter(reason for found in sets.values() for c in found.refused.values() for reason in c)
    assert set(refused) == {UNSETTLED, UNSPOKEN}, "each way of leaving a question out has its example here"


@pytest.mark.parametrize("name", ["outfits", "products"])
def test_entailed_questions_are_numbered_and_put_in_words_for_testing(sets: dict[str, Followed], name: str) -> None:
    found = sets[name]
    qids = [row["qid"] for row in found.stored]
    assert qids == sorted(set(qids))
    texts = {n: t["text"] for n, t in found.questions.templates.items()}
    forms = [texts[row["template"]][row["paraphrase"]] for row in found.stored]
    assert not any(isinstance(text, dict) and text.get("held_out") for text in forms)
    share = Counter(
        row["paraphrase"] for row in found.stored if texts[row["template"]] == texts[found.stored[0]["template"]]
    )
    assert len(share) > 2 and max(share.values()) < 0.6 * sum(share.values())


def test_the_source_is_the_first_wording_of_its_program(sets: dict[str, Followed]) -> None:
    found = sets["products"]
    samples = {s.qid: s for s in found.questions.samples}
    for row in found.stored:
        s, before = samples[row["source"]], samples.get(row["source"] - 1)
        assert (s.split, s.image) == (row["split"], row["image"])
        assert before is None or (before.image, before.template, before.slots) != (s.image, s.template, s.slots)
    assert len({row["source"] for row in found.stored}) > 200


def test_what_is_kept_apart_stays_so(catalogs: dict[str, Path], sets: dict[str, Followed]) -> None:
    """A pair of the compositional split stands in no entailed question of another one."""
    found, pictures = sets["outfits"], Pictures(catalogs["outfits"])
    keys, words = {n: said for n, said in found.questions.ids.items()}, Counter[str]()
    for row in found.stored:
        said = {keys[row[f"slot{i}"]][1] for i in range(4)}
        if any(category in said and value in said for category, value in pictures.kept_apart):
            words[row["split"]] += 1
    assert set(words) == {"compositional"}


def test_the_manifest_counts_and_lists_them(sets: dict[str, Followed]) -> None:
    for found in sets.values():
        manifest = json.loads((found.path / "manifest.json").read_text())
        splits = Counter(row["split"] for row in found.stored)
        assert manifest["counts"]["entailed"] == {name: splits[name] for name in SPLIT_NAMES}
        parts = [p.relative_to(found.path).as_posix() for p in found.path.glob("entailed/*/*.parquet")]
        assert parts and set(parts) <= set(manifest["files"]) and verify(found.path) == []
        assert all(pq.read_schema(found.path / p).remove_metadata() == ENTAILED for p in parts)


# Runs.


@pytest.fixture(scope="module")
def small(catalogs: dict[str, Path]) -> dict[str, Any]:
    """Settings of a small run."""
    families = {family: 0.0 for family in FAMILIES if family not in ("B1", "B2", "C1", "N1")}
    drop = ["B2.modified", "B2.kind_value", "C1.modified"]
    balance = BalanceOptions(family_cap=1.0)
    return {
        "catalog": catalogs["outfits"],
        "families": families,
        "drop": drop,
        "shard_images": 4,
        "balance": balance,
    }


def test_only_evaluation_splits_are_followed_unless_asked(small: dict[str, Any], tmp_path: Path) -> None:
    usual = made(**small, out=tmp_path / "usual")
    rows = stored(usual.path)
    splits = Counter(row["split"] for row in rows)
    assert splits["val"] and splits["test"] and not splits["train"]
    assert usual.report.entailed == {name: splits[name] for name in ("val", "test", "compositional")}
    assert any(line.startswith("  entailed:  val ") for line in usual.report.lines())
    assert usual.report.to_dict()["entailed"] == usual.report.entailed
    none = made(**small, out=tmp_path / "none", entail=[])
    assert not (none.path / "entailed").exists() and not any("entailed" in line for line in none.report.lines())
    assert fingerprint(none.path / "samples") == fingerprint(usual.path / "samples")
    again = made(**small, out=tmp_path / "usual")
    assert again.report.reused and again.report.entailed == usual.report.entailed


def test_workers_and_a_kill_change_nothing(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fingerprint(made(**small, out=tmp_path / "one").path)
    assert fingerprint(made(**small, out=tmp_path / "two", workers=2).path) == whole
    calls = []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments[1])
        if len(calls) == 4:
            raise KeyboardInterrupt
        return entail.write_entailed(*arguments)

    monkeypatch.setattr("fashionkit.datagen.generate.write_entailed", killed)
    with pytest.raises(KeyboardInterrupt):
        made(**small, out=tmp_path / "killed")
    assert list((tmp_path / "killed" / "entailed").glob("*/part-*"))
    monkeypatch.undo()
    assert fingerprint(made(**small, out=tmp_path / "killed").path) == whole


def test_how_many_are_looked_at_together_changes_nothing(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {**small, "phrasings": 2}
    whole = stored(made(**small, out=tmp_path / "whole").path)
    monkeypatch.setattr(entail, "STEP", 7)
    assert stored(made(**small, out=tmp_path / "steps").path) == whole
    assert len(whole) > 50


def test_other_settings_leave_nothing_of_the_old_ones(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("fashionkit.datagen.generate._finish", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        made(**small, out=tmp_path / "set")
    assert (tmp_path / "set" / "entailed").exists()
    made(**small, out=tmp_path / "set", entail=[])
    assert not (tmp_path / "set" / "entailed").exists()


# Rules of other packs.


def pack_of(folder: Path, *entails: str) -> str:
    """The core pack with another list of what follows from B1.exist and C1.query."""
    text = recipes.find("datagen/packs", "core").read_text()
    for template, entries in zip(("B1.exist", "C1.query"), entails, strict=True):
        at = text.index("    entails:\n", text.index(f"  - id: {template}\n"))
        end = text.index("\n\n", at)
        text = text[:at] + f"    entails: [{entries}]" + text[end:]
    (folder / "mine.yaml").write_text(text)
    return str(folder / "mine.yaml")


def test_a_rule_that_does_not_hold_stores_nothing(small: dict[str, Any], tmp_path: Path) -> None:
    wrong = pack_of(
        tmp_path,
        "{template: B5.none, slots: {cat: cat}, answer: answer}",
        "{template: B2.verify, slots: {cat: cat, v: answer}, answer: no}",
    )
    report = made(**small, out=tmp_path / "set", packs=[wrong])
    store = VQAStore(report.path)
    sources = {store[row["source"]]["template"] for row in stored(report.path)}
    assert sources and not sources & {"B1.exist", "C1.query"}
    rejects = pq.read_table(report.path / "rejects").to_pylist()
    assert {r["template"] for r in rejects if r["reason"] == CONTRADICTED} == {"B1.exist", "C1.query"}


def test_templates_for_another_kind_of_catalogue_are_not_asked(tmp_path: Path) -> None:
    """Outfits of one item settle what is asked about products, but its words are not for them."""
    pictures = [
        Picture(f"p{n}", [Item(("shirt", "bag", "coat")[n % 3], {"colour": "red"})], ("train", "test")[n // 3 % 2], n)
        for n in range(12)
    ]
    catalog = make_catalog(tmp_path / "catalog", pictures, closed_categories=["item"])
    asked = "{template: B2.kind, slots: {cat: cat}, answer: answer}"
    more = "{template: B5.none, slots: {cat: cat}, answer: opposite}"
    rest = "{template: B1.exist, slots: {cat: cat}, answer: yes}"
    path = made(catalog, tmp_path / "set", packs=[pack_of(tmp_path, f"{asked}, {more}", rest)]).path
    store = VQAStore(path)
    assert {store.pack.templates[row["template"]].id for row in stored(path)} >= {"B5.none"}
    assert "B2.kind" not in {store.pack.templates[row["template"]].id for row in stored(path)}
    slow = followed(catalog, path)
    assert [plain(row) for row in slow.stored] == list(unique([row for _, row in slow.expected]))


def test_a_question_follows_once_from_a_sample(small: dict[str, Any], tmp_path: Path) -> None:
    one = "{template: B5.none, slots: {cat: cat}, answer: opposite}"
    two = "{template: B2.verify, slots: {cat: cat, v: answer}, answer: yes}"
    once = made(**small, out=tmp_path / "once", packs=[pack_of(tmp_path, one, two)])
    again = pack_of(tmp_path, f"{one}, {one}", f"{two}, {two}")
    twice = made(**small, out=tmp_path / "twice", packs=[again])
    assert [plain(row) for row in stored(twice.path)] == [plain(row) for row in stored(once.path)]


def test_no_more_than_most_follow_from_a_sample(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stored(made(**small, out=tmp_path / "whole").path)
    monkeypatch.setattr(entail, "MOST", 1)
    few = made(**small, out=tmp_path / "few")
    first = {row["source"]: plain(row) for row in reversed(whole)}
    assert {r["source"]: plain(r) for r in stored(few.path)} == first and len(first) < len(whole)
    rejects = pq.read_table(few.path / "rejects").to_pylist()
    assert sum(r["count"] for r in rejects if r["reason"] == TOO_MANY) == len(whole) - len(first)


def test_numbers_of_parts_do_not_meet(sets: dict[str, Followed]) -> None:
    """A part's numbers end before those of the next one can start."""
    for found in sets.values():
        starts = {
            p: pq.read_table(p, partitioning=None)["qid"].to_pylist()[0] for p in found.path.glob("samples/*/part*")
        }
        for path, first in starts.items():
            part = found.path / "entailed" / path.parent.name / path.name
            if path.parent.name in SPLIT_NAMES and part.exists():
                qids = pq.read_table(part, partitioning=None)["qid"].to_pylist()
                samples = pq.read_metadata(path).num_rows
                assert qids == list(range(first * MOST, first * MOST + len(qids)))
                assert len(qids) <= samples * MOST


def test_distinct_compares_all_columns_of_one_row() -> None:
    rows = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    columns = {"row": rows, "template": np.array([1, 2, 1, 1, 1, 3, 3, 3, 3], np.uint16)}
    slots = [[7, 7, 7, 7, 7, 1, 1, 1, 1], [0] * 9, [0] * 9, [0, 0, 0, 0, 1, 2, 3, 3, 2]]
    columns |= {f"slot{i}": np.array(s, np.uint16) for i, s in enumerate(slots)}
    kept = distinct({**columns, "place": np.arange(9)})["place"]
    assert kept.tolist() == [0, 1, 3, 4, 5, 6]
    nothing = distinct({name: column[:0] for name, column in columns.items()})
    assert len(nothing["row"]) == 0


def test_one_split_alone_may_have_what_follows(tmp_path: Path) -> None:
    pictures = [
        Picture(
            f"p{n}", [Item("shirt", {"colour": ["red", "blue"][n % 2]}), Item("bag", {"colour": "black"})], split, n
        )
        for n, split in enumerate(["train"] * 4 + ["test"] * 4)
    ]
    catalog = make_catalog(tmp_path / "catalog", pictures, closed_categories=["item"], countable=["item"])
    found = followed(catalog, made(catalog, tmp_path / "set", drop=["B5.not"]).path)
    assert [plain(row) for row in found.stored] == list(unique([row for _, row in found.expected]))
    assert {row["split"] for row in found.stored} == {"test"}


# Reading.


def test_the_store_gives_them_as_questions(sets: dict[str, Followed]) -> None:
    found = sets["products"]
    store = VQAStore(found.path)
    for split in SPLIT_NAMES:
        tables = list(store.entailed(split, rendered=True, batch_size=100))
        rows = [row for table in tables for row in table.to_pylist()]
        assert [row["qid"] for row in rows] == [row["qid"] for row in found.stored if row["split"] == split]
        assert all(table.num_rows <= 100 for table in tables)
        for row in rows[::40]:
            assert row["question"][-1] in "?." and row["question"][0].isupper() and "{" not in row["question"]
            assert row["answer_text"] == store.vocab.text[row["answer"]]
            assert row["image_id"] == store[row["source"]]["image_id"]
    plain_table = next(store.entailed("test"))
    assert plain_table.schema.remove_metadata() == ENTAILED


def test_splits_without_entailed_questions_are_refused(small: dict[str, Any], tmp_path: Path) -> None:
    path = made(**small, out=tmp_path / "set", entail=["val"]).path
    store = VQAStore(path)
    assert sum(table.num_rows for table in store.entailed("val")) > 0
    for split in ("test", "train", "paraphrase", "nowhere"):
        with pytest.raises(InputError, match="no entailed questions were made for this split"):
            next(store.entailed(split))
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["params"]["entail"]  # of a version that had none
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="no entailed questions"):
        next(VQAStore(path).entailed("val"))


def test_a_missing_part_is_found_when_the_set_is_opened(small: dict[str, Any], tmp_path: Path) -> None:
    path = made(**small, out=tmp_path / "set").path
    shutil.rmtree(path / "entailed" / "test")
    with pytest.raises(InputError, match="missing"):
        VQAStore(path)


def test_a_catalogue_may_have_nothing_that_follows(tmp_path: Path) -> None:
    """No evaluation split has a picture."""
    pictures = [Picture(f"p{n}", [Item("shirt", {"colour": ["red", "blue"][n % 2]})], "train", n) for n in range(6)]
    catalog = make_catalog(tmp_path / "catalog", pictures, closed_categories=["item"])
    found = made(catalog, tmp_path / "set")
    assert found.report.entailed == {"val": 0, "test": 0, "compositional": 0}
    assert list(VQAStore(found.path).entailed("test")) == []
    assert pa.concat_tables(VQAStore(found.path).iter("train")).num_rows
