"""The report as a whole: what the page says, that nothing of a catalogue runs in it, and the way there and back."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fashionkit.catalog.catalog import write_rows
from fashionkit.cli import main
from fashionkit.datagen import report_page as module
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.report import LEVELS, SetReport, gather
from fashionkit.datagen.report_page import ASKS, make_report, report_page
from fashionkit.datagen.report_verdicts import Judgement, upper_bound
from fashionkit.tables import InputError, Manifest, read_table, write_manifest
from tests.datagen.conftest import FEW, Item, Made, Picture, made, make_catalog
from tests.report.browser import CHROMIUM, MISSING, Browser, browser

EVIL = "\"><img src=x onerror=alert(1)><script>alert(1)</script>'"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Made:
    """A set about pictures with boxes, one of them with an evil name."""
    folder = tmp_path_factory.mktemp("report")
    pictures = [
        Picture(EVIL if n == 5 else f"p{n:02d}", [Item("hat", {"colour": ("red", "blue")[n % 2]}),
                                                 *([Item("bag", {"colour": "black"})] if n % 3 else [])])
        for n in range(24)
    ]  # fmt: skip
    pixels = {}
    for number, picture in enumerate(pictures):
        out = io.BytesIO()
        Image.new("RGB", (120, 160), (9 * number, 120, 200)).save(out, "PNG")
        pixels[picture.image_id] = out.getvalue()
    facts = {"name": f"käte {EVIL}", "source": EVIL, "closed_categories": ["item"], "countable": ["item"]}
    catalog = make_catalog(folder / "catalog", pictures, pixels=pixels, **facts)
    items = [{**row, "box": [10.0, 20.0, 30.0, 40.0]} for row in read_table(catalog, "items").to_pylist()]
    write_rows(catalog, "items", 0, items)
    write_manifest(catalog, Manifest("catalog", 1, counts={"images": 24}))
    return made(catalog, folder / "set", families=FEW)


@pytest.fixture
def report(shop: Made) -> SetReport:
    return gather(shop.path, 60, 60, workers=1)


class Tags(HTMLParser):
    """The tags and attributes that a browser would see."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def written(report: SetReport, folder: Path, shop: Made | None = None, verdicts: str | None = None) -> str:
    """The text of the page, made as the command makes it."""
    make_report(report, str(folder / "page.html"), str(shop.catalog) if shop else None, verdicts)
    return (folder / "page.html").read_text(encoding="utf-8")


def row(text: str, name: str, start: int = 0) -> list[str]:
    """The figures of the first row after `start` whose head begins so."""
    found = re.compile(rf'<th scope="row">{re.escape(name)}\b.*?</tr>', re.S).search(text, start)
    assert found, name
    return re.findall(r'<td class="n">([^<]*)</td>', found[0])


def test_every_family_has_a_name() -> None:
    assert tuple(ASKS) == FAMILIES


def test_the_page_says_what_was_counted(outfit_set: Made, tmp_path: Path) -> None:
    report = gather(outfit_set.path, 60, 60, workers=1)
    text = written(report, tmp_path)
    samples, programs = report.samples(), report.programs()
    entailed = report.store.manifest.counts["entailed"]
    for split, number in samples.items():
        follow = f"{entailed[split]:,}" if split in entailed else ""
        assert row(text, split)[1:] == [f"{number:,}", f"{programs[split]:,}", follow]
    at = text.index('id="families"')
    for family, mine in report.families().items():
        counts = report.counts.split[:, mine].sum(axis=1)
        assert row(text, family, at) == [f"{n:,}" for n in (counts.sum(), *counts[report.counts.split.any(axis=1)])]
    at = text.index('id="answers"')
    assert row(text, "B1", at)[0] == row(text, "B1", at)[1] and row(text, "B1", at)[2] == "50.0"
    totals: Counter[str] = Counter()
    for reject in report.rejects:
        totals[reject["reason"]] += reject["count"]
    at = text.index('id="rejects"')
    assert all(row(text, reason, at) == [f"{number:,}"] for reason, number in totals.items() if number)
    for told in (report.content, "has not been audited", "60 samples", "0 of 60 judged", report.store.manifest.made_by):
        assert told in text
    shown = Tags(text).texts
    for sample in (*report.shown, *report.checked):
        assert sample["question"] in shown and sample["answer"] in shown and f"qid {sample['qid']}" in text


def test_open_answers_are_the_most_frequent_ones(outfit_set: Made) -> None:
    found = gather(outfit_set.path, 0, 0, workers=1)
    text = report_page(found)
    mine = found.families()["C1"]
    counts = found.counts.answer[mine].sum(axis=0)
    order = np.argsort(-counts, kind="stable")[: module.TOP]
    at = text.index("C1: which value")
    listed = re.findall(
        r'<th scope="row">([^<]+)</th>.*?<td class="n">([^<]+)</td>', text[at : text.index("</table>", at)]
    )
    assert listed == [(found.store.vocab.text[n], f"{counts[n]:,}") for n in order if counts[n]]


def test_difficulty_is_binned_and_its_quantiles_found() -> None:
    rng = np.random.default_rng(0)
    level = rng.integers(0, LEVELS, 5000)
    counts = np.bincount(level, minlength=LEVELS)
    numbers = np.sort(level / 16 - 4)
    bins = np.histogram(numbers, np.linspace(-4, 4, module.BINS + 1))[0]
    assert module._binned(counts).tolist() == bins.tolist()
    for share in (0.05, 0.5, 0.95):
        assert module._quantile(counts, share) == numbers[int(np.ceil(share * 5000)) - 1]
    assert module._quantile(np.eye(1, LEVELS, 7, dtype=int)[0], 0.05) == 7 / 16 - 4


def test_nothing_of_the_catalogue_runs_or_loads(report: SetReport, shop: Made, tmp_path: Path) -> None:
    report.shown[0] = {**report.shown[0], "question": EVIL, "answer": EVIL, "program": EVIL, "template": EVIL,
                       "split": EVIL, "family": EVIL}  # fmt: skip
    assert any(sample["image_id"] == EVIL for sample in (*report.shown, *report.checked))
    text = written(report, tmp_path, shop)
    tags = Tags(text)
    assert tags.tags["script"] == tags.tags["style"] == 1 and tags.tags["iframe"] == tags.tags["link"] == 0
    assert not any(name.startswith("on") or name == "style" for name, _ in tags.attributes)
    for name, value in tags.attributes:
        if name in ("src", "href", "xlink:href", "action", "srcset"):
            assert str(value).startswith(("data:image/jpeg;base64,", "#")), value
    body = text[text.index("<body>") :].replace(EVIL, "")
    assert "<script>alert" not in body and "onerror=alert" not in re.sub(r"&[a-z#0-9]+;|[^<>]*", "", body)
    assert "".join(tags.texts).count("<script>alert(1)</script>") >= 8, "what was meant to run is shown instead"
    assert "default-src 'none'" in text


def test_pictures_come_with_their_regions(report: SetReport, shop: Made, tmp_path: Path) -> None:
    text = written(report, tmp_path, shop)
    assert text.count("<img ") == 120 and 'viewBox="0 0 120 160"' in text
    assert text.count('<rect class="mark m0" x="10" y="20" width="30" height="40"/>') >= 30
    assert "no region is drawn" not in text


def test_without_a_catalogue_the_page_says_so(report: SetReport, tmp_path: Path) -> None:
    text = written(report, tmp_path)
    assert "<img " not in text and text.count("made without a catalogue") == 120 and "with --catalog" in text


def test_a_catalogue_without_boxes_says_so(outfit_set: Made, tmp_path: Path) -> None:
    text = written(gather(outfit_set.path, 20, 0, workers=1), tmp_path, outfit_set)
    assert "no region is drawn" in text and text.count("no picture in the catalogue") == 20


def test_verdicts_are_bounded_listed_and_on_the_sheet(report: SetReport, shop: Made, tmp_path: Path) -> None:
    given = [Judgement(s["qid"], "right") for s in report.checked[:50]]
    given[7] = Judgement(given[7].qid, "wrong", EVIL)
    given[8] = Judgement(given[8].qid, "cannot_tell")
    text = report_page(report, None, None, given, "checked.csv")
    assert "Checked by hand (checked.csv): 50 of 60 judged, 48 right, 1 wrong, 1 cannot tell." in text
    assert f"at most {upper_bound(1, 49):.1%} of the questions" in text and f"{upper_bound(2, 50):.1%} if those" in text
    assert text.count(" checked>") == 50 and "2 with a fault or a comment" in text and "<script>alert" not in text


def test_an_audit_is_shown(shop: Made, tmp_path: Path, report: SetReport) -> None:
    from fashionkit.datagen.report_audit import AuditFile

    for content, told in ((report.content, "passed"), ("ab" * 32, "stale")):
        text = report_page(report, None, AuditFile(content, True, ()))
        assert re.search(rf"<dt>Bias gate</dt><dd>{told}", text)
        assert ("Stale" in text) == (told == "stale")


# The command.


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_the_command_writes_page_and_figures(shop: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    words = [
        "--html",
        page,
        "--catalog",
        shop.catalog,
        "--samples",
        12,
        "--sheet",
        8,
        "--json",
        figures,
        "--workers",
        1,
    ]
    assert run("datagen", "report", shop.path, *words) == 0
    said, text = capsys.readouterr().out, page.read_text(encoding="utf-8")
    found = json.loads(figures.read_text())
    assert sum(found["samples"].values()) == sum(shop.report.samples.values()) and "checked" not in found
    assert f"{sum(shop.report.samples.values()):,} samples" in said and f"wrote {page}" in said
    assert text.count('class="card check"') == 8 and text.count('<article class="card">') == 12


def test_without_a_page_the_figures_are_printed(shop: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("datagen", "report", shop.path, "--workers", 1) == 0
    assert "by family: B1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["NOWHERE"], "no such folder"),
        (["OTHER"], "'questions' folder is needed"),
        (["SET", "--html", "PAGE", "--catalog", "OTHER"], "another catalogue"),
        (["SET", "--html", "PAGE", "--samples", "-1"], "0 or more"),
        (["SET", "--html", "PAGE", "--workers", "0"], "1 or more"),
        (["SET", "--html", "PAGE", "--verdicts", "NOWHERE"], "no such file"),
        (["SET", "--html", "PAGE", "--verdicts", "FOREIGN"], "another question set"),
    ],
)
def test_bad_input_of_the_command(
    shop: Made, outfits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    (tmp_path / "foreign.csv").write_text(f"set,qid,verdict,comment\n{'ab' * 32},1,right,\n")
    known = {"SET": shop.path, "OTHER": outfits, "NOWHERE": tmp_path / "nowhere", "PAGE": tmp_path / "page.html",
             "FOREIGN": tmp_path / "foreign.csv"}  # fmt: skip
    assert run("datagen", "report", *(known.get(word, word) for word in words)) == 2
    said = capsys.readouterr().err
    assert problem in said and "Traceback" not in said and not (tmp_path / "page.html").exists()


def test_a_damaged_audit_stops_the_page(small_set: Path, tmp_path: Path) -> None:
    (small_set / "audit.json").write_text("{")
    with pytest.raises(InputError, match="audit is damaged"):
        make_report(gather(small_set, 0, 0, workers=1), str(tmp_path / "page.html"))
    assert not (tmp_path / "page.html").exists()


def test_the_help_teaches_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("datagen", "report", "--help") == 0
    assert "fashionkit datagen report" in capsys.readouterr().out.split("example:")[1]


# In a browser.

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def shown(chromium: Browser, report: SetReport, shop: Made, tmp_path: Path) -> Browser:
    """The page of the shop, with a fresh store."""
    written(report, tmp_path, shop)
    chromium.open(f"file://{tmp_path}/page.html")
    chromium.evaluate("localStorage.clear()")
    chromium.requests.clear()
    chromium.open(f"file://{tmp_path}/page.html")
    return chromium


@needs_browser
def test_the_page_opens_without_a_network(shown: Browser, tmp_path: Path) -> None:
    assert shown.requests == [f"file://{tmp_path}/page.html"] and shown.errors == []
    pictures = "[...document.images].map(i => i.complete && i.naturalWidth > 0 && i.alt.startsWith('picture '))"
    assert shown.evaluate(pictures) == [True] * 120
    style = "getComputedStyle(document.querySelector('.tiles')).display"
    assert shown.evaluate(style) == "grid", "the policy lets the page's own style in"
    boxes = """[...document.querySelectorAll('#samples .pic')]
        .map(p => [p.querySelector('img'), p.querySelector('svg')])
        .filter(([i, s]) => s).map(([i, s]) => [i.getBoundingClientRect(), s.getBoundingClientRect()])
        .map(([a, b]) => Math.max(Math.abs(a.width - b.width), Math.abs(a.height - b.height)))"""
    found = shown.evaluate(boxes)
    assert len(found) > 10 and max(found) < 1, "regions lie on their picture"


@needs_browser
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844), (320, 600)])
def test_the_page_fits_its_window(shown: Browser, width: int, height: int) -> None:
    shown.size(width, height)
    shown.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


@needs_browser
def test_light_and_dark_are_both_readable(shown: Browser) -> None:
    """Contrast of texts and their ground, as WCAG 2 measures it: 4.5 at least."""
    for dark in (False, True):
        shown.size(1280, 900, dark)
        colours = shown.evaluate(
            """['body', '.lead', '.tile dd', 'nav a', 'td', '.note', '.banner', '.badge', '.a b', 'button.main', 'code',
                '.check .place'].map(name => {
                let e = document.querySelector(name), g = e;
                while (getComputedStyle(g).backgroundColor === 'rgba(0, 0, 0, 0)') g = g.parentElement;
                return [name, getComputedStyle(e).color, getComputedStyle(g).backgroundColor]; })"""
        )
        for name, ink, ground in colours:
            one, two = sorted((luminance(ink), luminance(ground)))
            assert (two + 0.05) / (one + 0.05) >= 4.5, (name, dark, ink, ground)


def luminance(colour: str) -> float:
    parts = [int(n) / 255 for n in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@needs_browser
def test_without_a_script_everything_but_the_export_is_there(shown: Browser, tmp_path: Path) -> None:
    try:
        shown.call("Emulation.setScriptExecutionDisabled", value=True)
        shown.open(f"file://{tmp_path}/page.html")
        text = shown.evaluate("document.body.innerText")
        assert "neither kept nor exported" in text and "Families and templates" in text
        shown.click(".check .v-wrong")
        assert shown.evaluate("document.querySelector('.check input[value=wrong]').checked")
        shown.click("#rejects summary")
        assert shown.evaluate("document.querySelector('#rejects details').open")
    finally:
        shown.call("Emulation.setScriptExecutionDisabled", value=False)


@needs_browser
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_there_and_back(
    shown: Browser, report: SetReport, shop: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A person ticks and exports; the command reads the file and bounds the share of wrong questions."""
    shown.click("#sheet-next")
    for verdict in "1" * 20 + "2" + "3" + "1" * 38:
        shown.key(verdict)
    shown.click(f".check[data-id='{report.checked[20]['qid']}'] .comment")
    shown.call("Input.insertText", text='the "hat", I think, is navy')
    path = shown.download(f"#sheet-{kind}", tmp_path)
    if kind == "csv":
        with path.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        assert [int(r["qid"]) for r in rows] == [s["qid"] for s in report.checked]
        assert {r["set"] for r in rows} == {report.content}
    figures, again = tmp_path / "figures.json", tmp_path / "again.html"
    words: list[Any] = ["--sheet", 60, "--verdicts", path, "--json", figures, "--html", again, "--workers", 1]
    assert run("datagen", "report", shop.path, *words) == 0
    checked = json.loads(figures.read_text())["checked"]
    assert (checked["right"], checked["wrong"], checked["cannot_tell"]) == (58, 1, 1)
    assert checked["errors_at_most"] == upper_bound(1, 59)
    assert "60 of 60 judged" in capsys.readouterr().out
    assert "the &quot;hat&quot;, I think, is navy" in again.read_text(encoding="utf-8")
    assert run("datagen", "report", shop.path, "--sheet", 60, "--seed", 1, "--verdicts", path, "--workers", 1) == 2
    assert "not on the sheet" in capsys.readouterr().err
