"""Samples for people: lines, and a page that shows whatever a catalogue holds without ever running it."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from fashionkit.catalog.ontology import Ontology
from fashionkit.datagen.show import page, sample_lines
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError
from tests.datagen.conftest import FEW, ONTOLOGY, Item, Made, Picture, made, make_catalog

SCRIPT = "<script>alert(1)</script>"
EVIL = f'"><img src=x onerror=alert(1)>{SCRIPT}'


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (60, 90), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Made:
    """A set about pictures with evil names; most of them have pixels."""
    folder = tmp_path_factory.mktemp("show")
    ids = [EVIL, "\x1b[2Jcleared", *(f"p{n}" for n in range(14))]
    pictures = [
        Picture(i, [Item("hat", {"colour": ("red", "blue")[n % 2]}), *([Item("bag", {})] if n % 2 else [])])
        for n, i in enumerate(ids)
    ]
    pixels = {i: picture((200, 10 * n, 0)) for n, i in enumerate(ids) if i != "p3"}
    pixels["p5"] = picture((1, 2, 3), (2000, 3000), "JPEG")
    facts = {"name": f"käte {EVIL}", "closed_categories": ["item"], "countable": ["item"]}
    return made(make_catalog(folder / "catalog", pictures, pixels=pixels, **facts), folder / "set", families=FEW)


@pytest.fixture(scope="module")
def store(shop: Made) -> VQAStore:
    return VQAStore(shop.path)


class Tags(HTMLParser):
    """The tags and attributes that a browser would see."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_lines_tell_question_answer_and_program(store: VQAStore) -> None:
    rows = store.sample(10)
    lines = sample_lines(rows)
    assert len(lines) == 20
    for row, said, program in zip(rows, lines[::2], lines[1::2], strict=True):
        assert row["question"] in said and said.endswith(f"→  {row['answer']}") and row["template"] in said
        assert row["program"] in program and f"{row['difficulty']:+.2f}" in program


def test_lines_hold_no_control_characters(store: VQAStore) -> None:
    rows = [row for row in store.sample(400) if "cleared" in row["image_id"]]
    assert rows and all(line.isprintable() and "cleared" in "".join(sample_lines(rows)) for line in sample_lines(rows))


def test_the_page_shows_each_sample(shop: Made, store: VQAStore) -> None:
    rows = store.sample(30)
    tags = Tags(page(store, rows, str(shop.catalog)))
    text = "\n".join(tags.texts)
    for row in rows:
        assert row["question"] in text and row["program"] in text and f"qid {row['qid']}" in text
    assert f"30 of {len(store):,} samples" in text and "käte" in text


def test_the_page_runs_nothing_that_the_catalogue_holds(shop: Made, store: VQAStore) -> None:
    rows = store.sample(400)
    assert any(row["image_id"] == EVIL for row in rows)
    rows[0] = {**rows[0], "question": EVIL, "answer": EVIL, "program": EVIL, "template": EVIL, "split": EVIL}
    text = page(store, rows, str(shop.catalog))
    tags = Tags(text)
    assert SCRIPT not in text and set(tags.tags) <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "h1",
        "p",
        "main",
        "div",
        "img",
        "span",
        "code",
    }
    assert not any(name.startswith("on") for name, _ in tags.attributes)
    assert all(str(value).startswith("data:image/") for name, value in tags.attributes if name in ("src", "href"))
    assert "\n".join(tags.texts).count(EVIL) >= 7, "what was meant to run is shown instead"
    assert "default-src 'none'" in text


def test_words_that_could_run_are_refused_by_the_ontology(tmp_path: Path) -> None:
    for old, new in (
        ("black: {rgb", f"black: {{name: {SCRIPT}, rgb"),
        ("hat: {parent", f"hat: {{name: {SCRIPT}, parent"),
    ):
        (tmp_path / "words.yaml").write_text(ONTOLOGY.replace(old, new))
        with pytest.raises(InputError, match="may not"):
            Ontology.load(tmp_path / "words.yaml")


def images(text: str) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(body)))
        for body in re.findall(r'src="data:image/\w+;base64,([^"]+)"', text)
    ]


def test_pictures_come_from_the_catalogue(shop: Made, store: VQAStore) -> None:
    rows = [row for row in store.sample(400) if row["image_id"] in ("p2", "p3", "p5")]
    wanted = [row["image_id"] for row in rows if row["image_id"] != "p3"]
    assert set(wanted) == {"p2", "p5"} and len(wanted) < len(rows)
    text = page(store, rows, str(shop.catalog))
    found = images(text)
    assert len(found) == len(wanted) and text.count("no picture") == len(rows) - len(wanted)
    for image, name in zip(found, wanted, strict=True):
        assert max(image.size) <= 400
        pixel = image.convert("RGB").getpixel((5, 5))
        assert isinstance(pixel, tuple)
        assert all(abs(a - b) <= 4 for a, b in zip(pixel, (200, 40, 0) if name == "p2" else (1, 2, 3), strict=True))


def test_without_a_catalogue_there_are_no_pictures(store: VQAStore) -> None:
    text = page(store, store.sample(12))
    assert images(text) == [] and text.count("no picture") == 12


def test_another_catalogue_is_refused(store: VQAStore, outfits: Path) -> None:
    with pytest.raises(InputError, match="another catalogue"):
        page(store, store.sample(3), str(outfits))


def test_a_damaged_picture_does_not_end_the_page(shop: Made, store: VQAStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from fashionkit.catalog.catalog import Catalog

    monkeypatch.setattr(Catalog, "image_bytes", lambda self, ids: dict.fromkeys(ids, b"\x89PNG no picture"))
    assert page(store, store.sample(3), str(shop.catalog)).count("damaged picture") == 3
