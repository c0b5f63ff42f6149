"""The pages cannot rot: links lead somewhere, commands and flags exist, and lists of columns and keys are those of the
code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.catalog.schema import TABLES, Facts
from fashionkit.cli.parsing import parse
from fashionkit.cli.shell import VERBS, main
from fashionkit.datagen.entail import ENTAILED
from fashionkit.datagen.expression import SIGNATURES
from fashionkit.datagen.grammar import PLACES
from fashionkit.datagen.packs import FAMILIES, Template
from fashionkit.datagen.samples import SAMPLES
from fashionkit.datagen.spec import RunSpec
from fashionkit.datagen.vocab import VOCAB
from fashionkit.recipes import names
from fashionkit.tables import Manifest
from tests.documents import ROOT, blocks, column, pages, quick, steps, tables

LINK = re.compile(r"\]\(([^)\s]+)\)")
SPAN = re.compile(r"`(fashionkit [^`]+)`")
FORMATS = tables(ROOT / "docs" / "file_formats.md")


def arguments(verb: str) -> type:
    """The dataclass of a verb's arguments."""
    from typing import get_type_hints

    (found,) = (hint for key, hint in get_type_hints(VERBS[verb]).items() if key != "return")
    return found


def verb_of(words: tuple[str, ...]) -> str | None:
    """The verb that a command line starts with."""
    return next((name for name in (" ".join(words[1:3]), words[1]) if name in VERBS), None)


def without(*kept: str) -> str:
    """The `families` of a spec that leaves out all but these."""
    return "{" + ", ".join(f"{family}: 0" for family in FAMILIES if family not in kept) + "}"


def anchors(page: Path) -> set[str]:
    """What links to a page may name after #, as GitHub makes it of the headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_exist_with_their_flags(page: Path) -> None:
    for block in blocks(page):
        for step in steps(block):
            if step.words[0] != "fashionkit":
                continue
            verb = verb_of(step.words)
            assert verb is not None, f"{page.name}, line {step.line}: {step.words}"
            parse(verb, "", arguments(verb), step.words[1 + len(verb.split()) :])
    for text in SPAN.findall(page.read_text(encoding="utf-8")):
        words = tuple(text.split())
        if words[1] in ("<verb>", "--help"):
            continue
        verb = verb_of(words)
        assert verb is not None, f"{page.name}: {text}"
        if any(f.metadata.get("rest") for f in fields(arguments(verb))):
            continue  # its words are Lightning's to read, and tests/train has them read
        known = {"--" + f.name.replace("_", "-") for f in fields(arguments(verb))} | {"--help", "--debug"}
        assert {word for word in words if word.startswith("--")} <= known, f"{page.name}: {text}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paths_in_the_text_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:fashionkit|datagen|docs|tests|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{page.name}: {path}"


def said(kind: pa.DataType) -> str:
    """A type as the page writes it."""
    if pa.types.is_fixed_size_list(kind):
        return f"{kind.list_size} {said(kind.value_type)}"
    if pa.types.is_list(kind):
        return f"list of {said(kind.value_type)}"
    return {"halffloat": "float16", "float": "float32"}.get(str(kind), str(kind))


def lists(heading: str, schema: pa.Schema, nulls: bool = True) -> None:
    """The table below a heading has exactly the columns of a schema, in order, with their types."""
    rows = FORMATS[heading]
    wanted = [(f.name, said(f.type) + (", may be null" if nulls and f.nullable else "")) for f in schema]
    assert list(zip(column(rows), column(rows, 1), strict=True)) == wanted


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_of_a_catalogue(name: str) -> None:
    lists(name, TABLES[name])


def test_the_columns_of_samples_and_vocabulary() -> None:
    lists("samples/SPLIT", SAMPLES)
    lists("entailed/SPLIT", ENTAILED)
    lists("vocab", VOCAB)


def test_the_columns_and_measures_of_answers() -> None:
    from fashionkit.eval.vqa_measures import WORDS
    from fashionkit.eval.vqa_schema import ANSWERS

    lists("answers", ANSWERS)
    assert column(tables(ROOT / "docs" / "answering.md")["Measures"]) == list(WORDS)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the trial on the page about new questions was made, smaller and with its own family alone."""
    folder, page = tmp_path_factory.mktemp("trial"), ROOT / "docs" / "adding_a_question_family.md"
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        patch.chdir(folder)
        for block in blocks(page):
            if block.file is not None:
                Path(block.file).write_text(block.text, encoding="utf-8")
        spec = Path("mine.yaml").read_text(encoding="utf-8")
        assert "{C8: 2}" in spec
        Path("mine.yaml").write_text(spec.replace("{C8: 2}", without("C8")), encoding="utf-8")
        (block,) = (block for block in blocks(page) if block.language == "sh")
        for step in steps(block):
            assert main([{"150": "40"}.get(word, word) for word in step.words[1:]]) == 0, step
        yield folder


def test_the_pack_on_the_page_asks_its_questions(trial: Path) -> None:
    page = (trial / "out" / "mine.html").read_text(encoding="utf-8")
    assert "C8.value" in page and "C8.count" in page


def test_the_other_tables_of_a_question_set_and_an_export(trial: Path) -> None:
    catalog, questions, export = (trial / "out" / name for name in ("drawn", "mine", "text"))
    assert main(["datagen", "export", str(questions), str(export)]) == 0
    for name in ("images", "rejects"):
        lists(f"{name} (of a question set)", pq.read_schema(questions / name / "part-00000.parquet"), nulls=False)
    lists("templates", pq.read_schema(questions / "templates" / "part-00000.parquet"), nulls=False)
    lists("An export", pq.read_schema(next(export.glob("*/part-*.parquet"))), nulls=False)
    text = (ROOT / "docs" / "file_formats.md").read_text(encoding="utf-8")
    assert not [path.name for path in (*catalog.iterdir(), *questions.iterdir()) if path.name not in text]


def test_keys_of_manifest_and_facts() -> None:
    assert column(FORMATS["manifest.json"]) == [f.name for f in fields(Manifest)]
    listed = column(FORMATS["catalog.yaml"])
    assert sorted(listed) == sorted(f.name for f in fields(Facts))


def test_families_forms_functions_and_keys() -> None:
    docs = ROOT / "docs"
    assert column(tables(docs / "concepts.md")["Families"]) == list(FAMILIES)
    adding = tables(docs / "adding_a_question_family.md")
    assert column(adding["The forms of the grammar"]) == list(PLACES)
    keys = {f.name for f in fields(Template)} - {"line", "paraphrases"} | {"text"}
    assert set(column(adding["The keys of a template"])) == keys
    listed = " ".join(row[0] for row in tables(docs / "programs.md")["Functions"])
    assert set(SIGNATURES) == set(re.findall(r"`(\w+)", listed)) - {"missing"}
    assert f"{len(SIGNATURES)} functions" in (docs / "threats.md").read_text(encoding="utf-8")


def test_the_page_of_recipes_has_every_recipe_and_every_key() -> None:
    page = ROOT / "datagen" / "README.md"
    assert column(tables(page)["Run specs"]) == [f.name for f in fields(RunSpec)]
    shown = page.read_text(encoding="utf-8")
    for kind in ("datagen", "datagen/packs", "datagen/ontologies", "datagen/mappings"):
        for name in names(kind):
            assert f"`{name}`" in shown, f"{kind}/{name} is not on the page"
