"""Generated question sets against the slow checker; and the checker against errors planted in good sets."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.datagen.conftest import Made, made, make_catalog, random_pictures
from tests.datagen.slow_checker import Checker, check, main, upper_bound
from tests.datagen.slow_interpreter import parse, without_one_filter
from tests.datagen.slow_questions import Questions, Sample

HELD = (("bag", "colour", "red"), ("shirt", "details", "bow"))
Row = dict[str, Any]
Plant = Callable[["Editor"], "int | None"]


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Made:
    """Questions about 30 outfits in all four states, with every family and a pair that is kept apart."""
    folder = tmp_path_factory.mktemp("slow")
    pictures = random_pictures(folder / "catalog", 30, 5, one=False)
    make_catalog(folder / "catalog", pictures, compositions=HELD, closed_categories=["item"], countable=["item"])
    return made(folder / "catalog", folder / "questions", samples=6000)


class Editor:
    """A question set whose samples can be altered; `save` writes them back."""

    def __init__(self, catalog: Path, folder: Path) -> None:
        self.folder, self.checker = folder, Checker(catalog, folder)
        self.questions: Questions = self.checker.questions
        self.parts = {p: pq.read_table(p, partitioning=None) for p in sorted(folder.glob("samples/*/part-*.parquet"))}
        self.rows: dict[Path, list[Row]] = {p: t.to_pylist() for p, t in self.parts.items()}
        self.by_qid = {r["qid"]: r for rows in self.rows.values() for r in rows}
        self.id = {said: n for n, said in self.questions.ids.items()}

    def samples(self, name: str, split: str = "train") -> list[Sample]:
        """Samples of a template or family in a split."""
        of = self.questions.templates
        return [
            s
            for s in self.questions.samples
            if s.split == split and name in (of[s.template]["id"], of[s.template]["family"])
        ]

    def part(self, split: str) -> list[Row]:
        """The rows of a split's first part."""
        return next(rows for path, rows in self.rows.items() if path.parent.name == split)

    def set(self, s: Sample, **columns: int) -> int:
        """Alters a sample; slots by their names. Returns its qid."""
        stored = self.questions.templates[s.template]["stored"]
        names = {name: f"slot{n}" for n, name in enumerate(stored)}
        self.by_qid[s.qid].update({names.get(k, k): v for k, v in columns.items()})
        return s.qid

    def option(self, key: str, value: Any) -> None:
        """Alters what the manifest says of a run's settings."""
        manifest = json.loads((self.folder / "manifest.json").read_text())
        params = manifest["params"]
        (params["balance"] if key in params["balance"] else params)[key] = value
        (self.folder / "manifest.json").write_text(json.dumps(manifest))

    def save(self) -> None:
        """Writes all parts."""
        for path, rows in self.rows.items():
            pq.write_table(pa.Table.from_pylist(rows, schema=self.parts[path].schema), path)


def wrong_answer(e: Editor) -> int:
    s = e.samples("B2.verify")[0]
    return e.set(s, answer=3 - s.answer)


def unsettled(e: Editor) -> int:
    """Asks the same of a picture whose tables do not settle it."""
    for s in e.samples("B2.verify"):
        for image, row in e.questions.images.items():
            slots = e.questions.slots(s)
            if e.checker.run.answer(e.questions.programs[s.template], slots, row["image_id"]) is None:
                return e.set(s, image=image)
    raise AssertionError("every picture settles every question")


def leak(e: Editor) -> int:
    s = next(s for s in e.samples("C1.modified") if len(e.questions.members[s.answer]) == 0)
    return e.set(s, m=s.answer)


def degenerate(e: Editor) -> int:
    """Adds a second value of the item to a question whose first is enough."""
    for s in e.samples("C3.kind"):
        image, slots = e.questions.images[s.image]["image_id"], e.questions.slots(s)
        e.checker.run.answer(e.questions.programs[s.template], slots, image)
        row = e.checker.run.meant[0].stated.get("pattern")
        if row and row.values and slots["v"][1].startswith("colour/") and len(e.checker.pictures.items[image]) > 1:
            second = e.id["value", f"pattern/{row.values[0]}"]
            return e.set(s, template=e.questions.by_id["C3.two"], slot0=s.slots[0], slot1=second)
    raise AssertionError("no picture to plant it in")


def n1_not_absent(e: Editor) -> int:
    s = e.samples("N1.query")[0]
    item = e.checker.pictures.items[e.questions.images[s.image]["image_id"]][0]
    return e.set(s, cat=e.id["category", item.category])


def entailment(e: Editor) -> int:
    for s in e.samples("C1.query"):
        others = [n for n, said in e.questions.ids.items() if said[1].startswith(e.questions.slots(s)["attr"][1] + "/")]
        for n in others:
            e.set(s, answer=n)
            if any(f.kind == "entailment" for f in e.checker.check_one(s._replace(answer=n))):
                return s.qid
            e.set(s, answer=s.answer)
    raise AssertionError("nothing contradicts what follows")


def invisible(e: Editor) -> int:
    return e.set(e.samples("C1.query")[0], attr=e.id["attribute", "price"])


def wrong_split(e: Editor) -> int:
    row = e.part("train").pop()
    e.part("val").append(row)
    return int(row["qid"])


def composition(e: Editor) -> int:
    row = e.part("compositional").pop()
    e.part("test").append(row)
    return int(row["qid"])


def composition_named_by_none(e: Editor) -> int:
    row = next(r for r in e.part("test") if e.questions.templates[r["template"]]["family"] == "C8")
    e.part("test").remove(row)
    e.part("compositional").append(row)
    return int(row["qid"])


def paraphrase(e: Editor) -> int:
    s = e.samples("B1.exist")[0]
    texts = e.questions.templates[s.template]["text"]
    return e.set(s, paraphrase=next(n for n, t in enumerate(texts) if isinstance(t, dict)))


def group(e: Editor) -> None:
    wrong_split(e)


def qid(e: Editor) -> int:
    first, second = e.part("train")[:2]
    second["qid"] = first["qid"]
    return int(first["qid"])


def duplicate(e: Editor) -> int:
    last = max(e.by_qid)
    e.part("train").append({**e.part("train")[0], "qid": last + 1})
    return int(last + 1)


def balance(e: Editor) -> None:
    drop_from_fullest(e, "B1.exist", keep=0, of=lambda s: s.answer)


def balance_of_options(e: Editor) -> None:
    drop_from_fullest(e, "C2.choose", keep=0, of=lambda s: (s.answer, sorted(s.slots)))


def tie(e: Editor) -> None:
    drop_from_fullest(e, "N1.where", keep=1, of=lambda s: 0)


def option_order(e: Editor) -> None:
    for s in e.samples("C2.choose"):
        _, v, w, *_ = s.slots
        e.set(s, v=s.answer, w=v + w - s.answer)


def per_image(e: Editor) -> None:
    e.option("per_image", 3)


def family_share(e: Editor) -> None:
    e.option("family_cap", 0.05)


def drop_from_fullest(e: Editor, template: str, keep: int, of: Callable[[Sample], Any]) -> None:
    """Leaves out samples of the part of a cell that has most."""
    parts: dict[str, list[int]] = defaultdict(list)
    for s in e.samples(template):
        parts[repr((e.questions.cell(s), of(s)))].append(s.qid)
    fullest = max(parts.values(), key=len)
    assert len(fullest) >= keep + 2
    for path, rows in e.rows.items():
        e.rows[path] = [r for r in rows if r["qid"] not in fullest[keep:]]


PLANTS: list[Plant] = [
    wrong_answer,
    unsettled,
    leak,
    degenerate,
    n1_not_absent,
    entailment,
    invisible,
    wrong_split,
    composition,
    composition_named_by_none,
    paraphrase,
    group,
    qid,
    duplicate,
    balance,
    balance_of_options,
    tie,
    option_order,
    per_image,
    family_share,
]
KINDS = {"composition_named_by_none": "composition", "balance_of_options": "balance"}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda p: p.__name__)
def test_a_planted_error_is_found(mixed: Made, tmp_path: Path, plant: Plant) -> None:
    folder = Path(shutil.copytree(mixed.path, tmp_path / "copy"))
    editor = Editor(mixed.catalog, folder)
    place = plant(editor)
    editor.save()
    checker = Checker(mixed.catalog, folder)
    found = checker.check_all()
    found += [f for s in checker.questions.samples if s.qid == place for f in checker.check_one(s)]
    kind = KINDS.get(plant.__name__, plant.__name__)
    assert any(f.kind == kind and (place is None or f.qid == place) for f in found), {f.kind for f in found}


def test_a_good_set_of_outfits_has_no_findings(mixed: Made) -> None:
    findings, figures = check(mixed.catalog, mixed.path, n=None)
    assert findings == []
    assert figures["checked"] == sum(len(rows) for rows in mixed.rows.values())
    assert len(figures["by_family"]) == 16


def test_a_good_set_of_products_has_no_findings(product_set: Made) -> None:
    findings, figures = check(product_set.catalog, product_set.path, n=None)
    assert findings == []
    assert {"B2", "B4", "B5", "C1", "C2", "C3", "G1"} <= set(figures["by_family"])


@settings(  # no shrinking: a set takes seconds to make, and a finding tells its place
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.generate],
)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(12, 20),
    closed=st.sets(st.sampled_from(["item", "topwear", "footwear", "bag", "trousers"]), min_size=1),
    countable=st.sampled_from([[], ["item"], ["footwear", "bag"]]),
    sole=st.sets(st.sampled_from(["footwear", "hat", "topwear"])),
    alone=st.sets(st.sampled_from(["footwear", "accessory", "coat"]), min_size=1),
    product=st.booleans(),
)
def test_no_set_of_a_random_catalogue_has_findings(
    seed: int, count: int, closed: set[str], countable: list[str], sole: set[str], alone: set[str], product: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts: Row = {"closed_categories": sorted(closed), "countable": countable}
        if product:
            facts = {"scene": "product", "noun": "product", "sole_categories": sorted(sole)}
            facts["alone_categories"] = sorted(alone)
        pictures = random_pictures(folder / "catalog", count, seed, one=product)
        make_catalog(folder / "catalog", pictures, compositions=HELD, **facts)
        made(folder / "catalog", folder / "questions")
        findings, figures = check(folder / "catalog", folder / "questions", n=None)
        assert findings == []
        assert figures["checked"] > 0


def test_drawn_samples_are_spread_over_families_and_splits(mixed: Made) -> None:
    checker = Checker(mixed.catalog, mixed.path)
    drawn = checker.draw(320, seed=1)
    families = [checker.questions.family(s) for s in drawn]
    assert len(drawn) == 320 == len({s.qid for s in drawn})
    assert {f: families.count(f) for f in set(families)}["B2"] in range(20, 24)
    assert len(set(families)) == 16
    assert drawn == checker.draw(320, seed=1) != checker.draw(320, seed=2)


def test_upper_bound_is_that_of_clopper_and_pearson() -> None:
    # With no error it has a closed form; with some, tables give 0.0129 for 3 of 600 and 0.5069 for 2 of 10.
    assert upper_bound(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300), rel=1e-9)
    assert upper_bound(3, 600) == pytest.approx(0.01288, abs=5e-5)
    assert upper_bound(2, 10) == pytest.approx(0.5069, abs=1e-4)
    assert upper_bound(10, 10) == 1.0


def test_programs_are_parsed_and_shortened() -> None:
    tree = parse("same(unique(filter(filter(scene, cat), v)), unique(filter(scene, cat2)), attr)")
    inner = ("filter", ("scene",), "cat")
    assert tree == ("same", ("unique", ("filter", inner, "v")), ("unique", ("filter", ("scene",), "cat2")), "attr")
    assert len(list(without_one_filter(tree))) == 3
    assert next(iter(without_one_filter(tree)))[1] == ("unique", inner)


def test_script_reports_and_tells_failure(mixed: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert main([str(mixed.catalog), str(mixed.path), "--n", "50", "--json", str(report)]) == 0
    assert json.loads(report.read_text())["wrong"] == 0
    copy = Path(shutil.copytree(mixed.path, tmp_path / "copy"))
    editor = Editor(mixed.catalog, copy)
    editor.option("per_image", 3)
    assert main([str(mixed.catalog), str(copy), "--n", "50"]) == 1
    assert "per_image" in capsys.readouterr().out
