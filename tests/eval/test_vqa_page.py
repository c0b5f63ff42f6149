"""The page of answers: what it shows, that texts cannot break out of it, and that it shows in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.datagen.store import VQAStore
from fashionkit.eval.vqa_human import HumanQuestions
from fashionkit.eval.vqa_measures import compare, measure
from fashionkit.eval.vqa_page import answers_page, chosen, small_pictures
from fashionkit.eval.vqa_questions import Questions
from fashionkit.eval.vqa_side import Side, read_side
from tests.eval.made_answers import answered
from tests.report.browser import CHROMIUM, MISSING, browser

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> \" ' & ]]>"


@pytest.fixture
def folders(store: VQAStore, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Answers of a model, of a blind one, of another."""
    asked = Questions(store, "test", 250)
    options = ({"errors": 0.3}, {"errors": 0.0, "blind": True}, {"errors": 0.5, "seed": 4})
    one, two, three = (answered(asked, tmp_path / str(n), **each) for n, each in enumerate(options))
    return one, two, three


def test_half_of_the_pictures_are_errors(folders: tuple[Path, Path, Path]) -> None:
    side = read_side(folders[:1])
    rows = chosen(side, 100)
    wrong = [row for row in rows if not side.right[0, row]]
    assert len(rows) == len(set(rows)) == 100 and len(wrong) == 50
    assert chosen(side, 100) == rows != chosen(side, 100, seed=1)
    few = side.take(side.right[0] == 1)
    assert len(chosen(few, 20)) == 20
    assert len(chosen(side, 10_000)) == 250


def test_of_people_all_errors_are_shown(store: VQAStore, tmp_path: Path) -> None:
    path = tmp_path / "human.csv"
    lines = [f"h{n},p{n % 40:04d},is it number {n},yes,yes/no" for n in range(60)]
    path.write_text("question_id,image_id,question,answer,kind\n" + "\n".join(lines) + "\n")
    side = read_side([answered(HumanQuestions(store, path), tmp_path / "out", errors=0.8)])
    rows = chosen(side, 20)
    wrong = int((side.right[0] == 0).sum())
    assert wrong > 20 and len(rows) == wrong and not side.right[0, rows].any()


def page_of(folders: tuple[Path, Path, Path], outfits: Path) -> str:
    side = read_side(folders[:1])
    rows = chosen(side, 40)
    ids = [side.table["image_id"][row].as_py() for row in rows]
    figures = measure(folders[:1], folders[1:2], resamples=30)
    return answers_page(
        side, figures, compare(folders[:1], folders[2:], 30), rows, small_pictures(Catalog(outfits), ids)
    )


def test_what_the_page_shows(folders: tuple[Path, Path, Path], outfits: Path) -> None:
    text = page_of(folders, outfits)
    figures = measure(folders[:1], resamples=30)
    assert f"{100 * figures['measures']['accuracy']['value']:.1f} %" in text
    for family in ("B1", "C1", "C2", "N1"):
        assert f'<th scope="row">{family}</th>' in text
    assert "40 answers, 20 of them wrong" in text and text.count("data:image/jpeg;base64,") == 40
    assert text.count(">wrong</span>") == text.count(">right</span>") == 20
    assert "Gain by looking" in text and "Coverage and risk" in text and str(folders[2]) in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    side = read_side(folders[:1])
    for row in side.table.take(pa.array(chosen(side, 40))).slice(0, 3).to_pylist():
        assert row["predicted"] in text and f"{row['probability']:.0%}" in text and str(row["qid"]) in text


def hostile(side: Side) -> Side:
    """The same side with texts that try to break out."""
    table = side.table
    for name in ("question", "answer", "predicted", "free", "image_id", "template", "attribute", "family"):
        table = table.set_column(table.column_names.index(name), name, pa.array([EVIL] * len(table)))
    rows = len(table)
    at = table.column_names.index("alternatives")
    table = table.set_column(at, "alternatives", pa.array([[EVIL, EVIL]] * rows))
    at = table.column_names.index("probabilities")
    table = table.set_column(at, "probabilities", pa.array([[0.6, 0.4]] * rows, pa.list_(pa.float32())))
    return Side(**{**side.__dict__, "table": table})


def hostile_page(folder: Path) -> str:
    side = read_side([folder])
    figures = measure([folder], resamples=10)
    figures["families"][0]["name"] = figures["attributes"][0]["name"] = EVIL
    figures["confusions"] = [{"answer": EVIL, "given": EVIL, "n": 1, "share": 1.0}]
    figures["answers"] = [{"answer": EVIL, "n": 9, "given": 1.0, "right": 0.5}]
    figures["split"] = EVIL
    side.manifest.about["model"] = side.manifest.about["set"] = EVIL
    return answers_page(hostile(side), figures, None, [0, 1, 2])


def test_texts_cannot_break_out(folders: tuple[Path, Path, Path]) -> None:
    text = hostile_page(folders[0])
    assert "<script" not in text and "<img src=x" not in text
    assert text.count("&lt;script&gt;") > 10


def test_an_empty_page_of_few_answers(store: VQAStore, tmp_path: Path) -> None:
    out = answered(Questions(store, "absent", 3), tmp_path / "out", errors=0.0)
    side = read_side([out])
    text = answers_page(side, measure([out], resamples=10), None, [], None)
    assert "0 answers" not in text and "Families" in text and "Taken for each other" not in text
    shown = answers_page(side, measure([out], resamples=10), None, [0], None)
    assert "no catalogue was given" in shown


def test_a_damaged_picture_leaves_its_card(folders: tuple[Path, Path, Path], outfits: Path) -> None:
    side = read_side(folders[:1])
    text = answers_page(side, measure(folders[:1], resamples=10), None, [0, 1], {})
    assert text.count("the picture cannot be shown") == 2
    assert small_pictures(Catalog(outfits), ["p0000", "nobody"]).keys() == {"p0000"}


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_the_page_in_a_browser(folders: tuple[Path, Path, Path], outfits: Path, tmp_path: Path) -> None:
    for name, text in (("page", page_of(folders, outfits)), ("hostile", hostile_page(folders[0]))):
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
    with browser(tmp_path) as shown:
        for name in ("page", "hostile"):
            url = (tmp_path / f"{name}.html").as_uri()
            shown.open(url)
            assert shown.evaluate("document.querySelectorAll('.card').length") == (40 if name == "page" else 3)
            for width in (1200, 390):
                shown.size(width, 900)
                assert shown.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
            assert shown.requests == [url] and shown.errors == []
            shown.requests.clear()
        assert shown.evaluate("document.querySelectorAll('script').length") == 0
