"""Template packs: what is wrong is refused with its line, and every shipped recipe loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashionkit import recipes
from fashionkit.catalog.mapping import load_mapping
from fashionkit.catalog.ontology import Ontology
from fashionkit.datagen.packs import FAMILIES, MIN_PARAPHRASES, Pack, Place, load_packs
from fashionkit.datagen.spec import load_spec
from fashionkit.tables import InputError

ROOT = Path(__file__).resolve().parents[2]
PACKS = sorted((ROOT / "datagen" / "packs").glob("*.yaml"))

GOOD = """\
schema: fashionkit.pack/1
name: mine
templates:
  - id: B2.mine
    family: B2
    slots:
      cat: {category: own}
      attr: {attribute: each}
      v: {value: either, of: attr}
    mix: [o, d]
    program: verify(unique(filter(scene, cat)), v)
    balance: binary
    cell: [cat, v]
    text:
      - "{ask cat v}?"
      - "is it true that {say cat v}?"
      - "would you say that {say cat v}?"
      - {text: "is it right that {say cat v}?", held_out: true}
"""


def load(folder: Path, *texts: str) -> Pack:
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"pack{number}.yaml")
        paths[-1].write_text(text, encoding="utf-8")
    return load_packs(paths)


def line_of(text: str, part: str) -> int:
    """The line, from 1, of the last text that holds the part."""
    return max(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def refused(folder: Path, old: str, new: str, problem: str, at: str) -> InputError:
    """Loads the good pack with a part exchanged; the error must tell the problem and name the line that holds `at`."""
    assert GOOD.count(old) == 1, "the part that is exchanged stands once in the good pack"
    text = GOOD.replace(old, new)
    with pytest.raises(InputError, match=problem) as caught:
        load(folder, text)
    assert caught.value.row == line_of(text, at), str(caught.value)
    assert "pack0.yaml" in str(caught.value)
    return caught.value


def test_the_good_pack_is_read_as_it_is_written(tmp_path: Path) -> None:
    (template,) = load(tmp_path, GOOD).templates
    assert (template.id, template.family, template.balance, template.cell) == ("B2.mine", "B2", "binary", ("cat", "v"))
    assert template.program.text() == "verify(unique(filter(scene, cat)), v)"
    assert [s.name for s in template.drawn_slots] == ["v"] and [s.name for s in template.attribute_slots] == ["attr"]
    assert template.slot("v").of == "attr" and template.line == 4
    assert [p.held_out for p in template.paraphrases] == [False, False, False, True]
    assert template.paraphrases[1].parts == ("is it true that ", Place("say", ("cat", "v")), "?")


@pytest.mark.parametrize(
    ("old", "new", "problem", "at"),
    [
        ("name: mine", "nmae: mine", "unknown key", "nmae"),
        ("schema: fashionkit.pack/1", "schema: fashionkit.pack/9", "not a pack of this version", "schema"),
        ("    family: B2", "    familly: B2", "unknown key", "familly"),
        ("    family: B2", "    family: B9", "family", "family: B9"),
        ("    family: B2", "    family: 3", "family", "family: 3"),
        ("    balance: binary", "    balance: even", "balance", "balance: even"),
        ("    balance: binary", "    balance: binary\n    anchor: shoe", "anchor", "anchor: shoe"),
        ("    balance: binary", "    balance: binary\n    scene: moon", "scene", "scene: moon"),
        ("    balance: binary", "    balance: binary\n    share: 2", "share", "share: 2"),
        ("    balance: binary", "    balance: binary\n    share: true", "share", "share: true"),
        ("    balance: binary", "    balance: binary\n    levels: [leaf, twig]", "no such level", "twig"),
        ("    balance: binary", "    balance: tied", "tied template names the other", "id: B2.mine"),
        ("    balance: binary", "    balance: tied\n    tie: B2.nowhere", "not there", "id: B2.mine"),
        ("    balance: binary", "    balance: binary\n    needs: B2.nowhere", "not there", "id: B2.mine"),
        ("    mix: [o, d]", "    mix: [oo, d]", "mix", "mix:"),
        ("    mix: [o, d]", "    mix: [o, x]", "mix", "mix:"),
        ("    mix: [o, d]", "    levels: [leaf]", "needs `mix`", "id: B2.mine"),
        ("    cell: [cat, v]", "    cell: [cat, w]", "does not have", "cell:"),
        ("    cell: [cat, v]", "    levels: [leaf]", "`cell` is missing", "id: B2.mine"),
        ("      cat: {category: own}", "      cat: {category: own, colour: red}", "unknown key", "cat: {"),
        ("      cat: {category: own}", "      cat: {category: mine}", "category", "cat: {"),
        ("      cat: {category: own}", "      cat: {category: own, region: own}", "exactly one", "cat: {"),
        ("      cat: {category: own}", "      cat: {category: own, item: 3}", "item", "cat: {"),
        ("      cat: {category: own}", "      cat: {category: own, level: twig}", "level", "cat: {"),
        (
            "      cat: {category: own}",
            "      cat: {category: own}\n      extra: {region: own}",
            "used by neither",
            "slots:",
        ),
        ("{value: either, of: attr}", "{value: either, of: other}", "attribute slot in `of`", "v: {"),
        ("{value: either, of: attr}", "{value: either}", "attribute slot in `of`", "v: {"),
        ("verify(unique(filter(scene, cat)), v)", "verify(unique(filter(scene, kat)), v)", "needs a slot", "program:"),
        ("verify(unique(filter(scene, cat)), v)", "verify(unique(filter(scene, cat))", "takes 2 arguments", "program:"),
        ("verify(unique(filter(scene, cat)), v)", "verify(filter(scene, cat), v)", "needs item here", "program:"),
        ("verify(unique(filter(scene, cat)), v)", "verify(unique(filter(scene, v)), attr)", "takes a slot", "program:"),
        ("verify(unique(filter(scene, cat)), v)", "filter(filter(scene, cat), v)", "answer is needed", "program:"),
        ("verify(unique(filter(scene, cat)), v)", "__import__(os)", "unexpected character", "program:"),
        ("verify(unique(filter(scene, cat)), v)", "eval(cat, v)", "unknown function", "program:"),
        ('"{ask cat v}?"', '"{asks cat v}?"', "no such form", "asks"),
        ('"{ask cat v}?"', '"{ask v cat}?"', "takes", "{ask v"),
        ('"{ask cat v}?"', '"{ask cat}?"', "takes", "{ask cat}"),
        ('"{ask cat v}?"', '"{worn cat} {ask cat v}?"', "takes region", "worn"),
        ('"{ask cat v}?"', '"{ask cat w}?"', "does not have", "ask cat w"),
        ('"{ask cat v}?"', '"{}{ask cat v}?"', "no such form", "{}"),
        ('"{ask cat v}?"', '"{0.__class__}{ask cat v}?"', "no such form", "__class__"),
        ('"{ask cat v}?"', '"{ask.__globals__ cat v}?"', "no such form", "__globals__"),
        ('"{ask cat v}?"', '"{ask cat.__class__ v}?"', "does not have", "__class__"),
        ('"{ask cat v}?"', '"{ask cat v!r:>30}?"', "does not have", "!r"),
        ('"{ask cat v}?"', '"{ask cat v}? {"', "brace", '? {"'),
        ('"{ask cat v}?"', '"{ask cat v}? }"', "brace", '? }"'),
        ('"{ask cat v}?"', '"{ask {cat} v}?"', "brace", "{ask {cat}"),
        ('"{ask cat v}?"', "17", "line of text", "- 17"),
        ('"{ask cat v}?"', '"  "', "line of text", '"  "'),
        ('"{ask cat v}?"', '{text: "{ask cat v}?", helt_out: true}', "unknown key", "helt_out"),
        ('      - "{ask cat v}?"\n', "", "at least 4 paraphrases", "    text:"),
        ('"{ask cat v}?"', '"is it true that {say cat v}?"', "stands twice", "    text:"),
        (", held_out: true", "", "must be held out", "    text:"),
        ("slots:\n", "slots: &all\n", "anchor", "slots:"),
        ("cell: [cat, v]", "cell: *all", "alias|anchor", "cell:"),
        ("cell: [cat, v]", "cell: !!python/object/apply:os.system [ls]", "tag", "cell:"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(tmp_path: Path, old: str, new: str, problem: str, at: str) -> None:
    refused(tmp_path, old, new, problem, at)


def test_the_nearest_known_word_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path, "    family: B2", "    famly: B2", "unknown key", "famly")
    assert "nearest allowed: 'family'" in str(error)


def test_all_held_out_is_refused_too(tmp_path: Path) -> None:
    lines = [
        f"      - {{text: {line.strip()[2:]}, held_out: true}}" if line.startswith('      - "') else line
        for line in GOOD.splitlines()
    ]
    with pytest.raises(InputError, match="at least one not"):
        load(tmp_path, "\n".join(lines))


def test_doubled_braces_are_text(tmp_path: Path) -> None:
    text = GOOD.replace('"{ask cat v}?"', '"{{0.__class__}} {ask cat v}?"')
    parts = load(tmp_path, text).templates[0].paraphrases[0].parts
    assert parts == ("{0.__class__} ", Place("ask", ("cat", "v")), "?")


def test_an_id_stands_once_over_all_packs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="used twice") as caught:
        load(tmp_path, GOOD, "# another\n" + GOOD)
    assert caught.value.row == 5 and "pack1.yaml" in str(caught.value)


def test_another_packs_template_may_be_tied_to(tmp_path: Path) -> None:
    second = (
        GOOD.replace("B2.mine", "B5.mine")
        .replace("family: B2", "family: B5")
        .replace("verify(", "not(verify(")
        .replace(", v)\n", ", v))\n")
    )
    second = second.replace("balance: binary", "balance: tied\n    tie: B2.mine\n    share: 0.3")
    assert load(tmp_path, GOOD, second).by_id("B5.mine").tie == "B2.mine"
    with pytest.raises(InputError, match="not there"):
        load(tmp_path, second, GOOD)


@pytest.mark.parametrize(
    ("entails", "problem"),
    [
        ("[{template: B2.nowhere, slots: {cat: cat, v: v}, answer: yes}]", "not there"),
        ("[{template: B2.mine, slots: {cat: cat}, answer: yes}]", "unbound slot"),
        ("[{template: B2.mine, slots: {cat: cat, v: w}, answer: yes}]", "takes a slot or `answer`"),
        ("[{template: B2.mine, slots: {cat: cat, v: v}, answer: perhaps}]", "entailed answer"),
        ("[{template: B2.mine, slot: {cat: cat, v: v}, answer: yes}]", "unknown key"),
    ],
)
def test_entailments_are_checked(tmp_path: Path, entails: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        load(tmp_path, f"{GOOD}    entails: {entails}\n")
    assert caught.value.row in (4, line_of(GOOD, "held_out") + 1)


@pytest.mark.parametrize(
    "entails",
    [
        "yes",
        "[yes]",
        "[{template: B2.mine, slots: [cat], answer: yes}]",
        "[{template: B2.mine, slots: {cat: [1], v: v}, answer: yes}]",
    ],
)
def test_an_entailment_of_another_shape_is_an_input_error(tmp_path: Path, entails: str) -> None:
    with pytest.raises(InputError):
        load(tmp_path, f"{GOOD}    entails: {entails}\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    balance: binary", "    balance: binary\n    tie: [1]"),
        ("    balance: binary", "    balance: binary\n    needs: {a: b}"),
        ("    balance: binary", "    balance: binary\n    leak: maybe"),
        ('"{ask cat v}?"', '{text: "{ask cat v}?", held_out: maybe}'),
        ("{value: either, of: attr}", "{value: either, of: [attr]}"),
        ("    slots:\n", "    slots: none\n    more:\n"),
        ("- id: B2.mine", "- id: ''"),
    ],
)
def test_values_of_another_type_are_input_errors(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(InputError):
        load(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "just words",
        "schema: fashionkit.pack/1\n",
        "schema: fashionkit.pack/1\ntemplates: {}\n",
        "schema: fashionkit.pack/1\ntemplates: [3]\n",
    ],
)
def test_no_pack_at_all(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        load(tmp_path, text)


def test_more_than_four_stored_slots_are_refused(tmp_path: Path) -> None:
    many = "\n".join(f"      r{i}: {{region: own}}" for i in range(4))
    text = GOOD.replace("      cat: {category: own}", "      cat: {category: own}\n" + many)
    with pytest.raises(InputError, match="at most 4 slots"):
        load(tmp_path, text)


# Shipped recipes.


@pytest.mark.parametrize("path", PACKS, ids=lambda p: p.stem)
def test_shipped_packs_have_paraphrases_enough(path: Path) -> None:
    templates = load_packs([path]).templates
    assert templates
    for t in templates:
        held_out = sum(p.held_out for p in t.paraphrases)
        assert len(t.paraphrases) >= MIN_PARAPHRASES and 1 <= held_out < len(t.paraphrases), t.id
        assert all(p.text[-1] in "?." for p in t.paraphrases), t.id
        assert t.id.startswith(t.family + "."), t.id


def test_the_core_pack_holds_all_families() -> None:
    families = {t.family for t in load_packs([recipes.find("datagen/packs", "core")]).templates}
    assert families == set(FAMILIES) and len(FAMILIES) == 16


def test_the_core_pack_states_what_follows() -> None:
    pack = load_packs([recipes.find("datagen/packs", "core")])
    said = {t.family for t in pack.templates if t.entails}
    assert {"B2", "B5", "C1", "C2", "C6", "N1", "G1"} <= said


@pytest.mark.parametrize("path", sorted((ROOT / "datagen").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_run_recipe_fits_the_settings(path: Path) -> None:
    spec = load_spec(str(path))
    assert load_packs([recipes.find("datagen/packs", name) for name in spec.packs]).templates
    header = path.read_text().split("\n\n")[0]
    assert f"fashionkit datagen run {path.stem}" in header, "a recipe's head names its command"


@pytest.mark.parametrize("path", sorted((ROOT / "datagen" / "mappings").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_mapping_is_read(path: Path) -> None:
    assert load_mapping(path)


@pytest.mark.parametrize("path", sorted((ROOT / "datagen" / "ontologies").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_ontology_is_read(path: Path) -> None:
    assert Ontology.load(path).categories


def test_no_recipe_folder_goes_unchecked() -> None:
    """A YAML in a new kind of recipe folder needs a test here that parses it."""
    folders = {p.parent.relative_to(ROOT / "datagen").as_posix() for p in (ROOT / "datagen").rglob("*.yaml")}
    assert folders == {".", "mappings", "ontologies", "packs"}
