"""Rules of what follows: what they may take from a question, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashionkit import recipes
from fashionkit.datagen.expression import parse
from fashionkit.datagen.packs import load_packs
from fashionkit.datagen.rules import Entailment, answer_kind, conditions, sources
from fashionkit.tables import InputError

TEMPLATE = """\
  - id: {id}
    family: {family}
    slots: {slots}
    program: {program}
    balance: {balance}
    cell: [cat]
    text:
      - "{text}?"
      - "tell me, {text}?"
      - "well, {text}?"
      - {{text: "now, {text}?", held_out: true}}
    entails: [{entails}]
"""
NAMED = "{cat: {category: own}, attr: {attribute: each}}"
VERIFIED = "{cat: {category: own}, attr: {attribute: each}, v: {value: own, of: attr}}"
CHOSEN = VERIFIED.replace("}}", "}, w: {value: own, of: attr}}")
KINDS = {"cat": "category", "cat2": "category", "attr": "attribute", "v": "value", "w": "value", "region": "region"}
IT = "unique(filter(scene, cat))"
YES = "{template: B2.one, slots: {cat: cat, v: v}, answer: yes}"


def pack(folder: Path, entails: str, source: str = "verify") -> tuple[Entailment, ...]:
    """What a template of its own entails, beside the two questions that it may entail."""
    shapes = {
        "verify": ("B2", VERIFIED, f"verify({IT}, v)", "{ask cat v}"),
        "query": ("C1", NAMED, f"query({IT}, attr)", "{query cat attr}"),
        "list": ("C7", NAMED, f"list({IT}, attr)", "which {names attr} has {the cat}"),
        "count": ("C8", "{cat: {category: own}}", "count(filter(scene, cat))", "how many {many cat}"),
        "which": ("C2", CHOSEN, f"which(verify({IT}, v), v, verify({IT}, w), w)", "{ask_or cat v w}"),
    }

    def template(name: str, shape: str, entails: str = "") -> str:
        family, slots, program, text = shapes[shape]
        balance = {"verify": "binary", "which": "choice"}.get(shape, "tempered")
        return TEMPLATE.format(
            id=name, family=family, slots=slots, program=program, balance=balance, text=text, entails=entails
        )

    parts = [
        template("B2.one", "verify"),
        template("C1.one", "query"),
        template("C8.one", "count"),
        template("X.mine", source, entails),
    ]
    path = folder / "mine.yaml"
    path.write_text("schema: fashionkit.pack/1\nname: mine\ntemplates:\n" + "".join(parts))
    return load_packs([path]).by_id("X.mine").entails


@pytest.mark.parametrize(
    ("source", "entails"),
    [
        ("verify", YES),
        ("verify", YES.replace("yes", "opposite")),
        ("verify", f"{YES[:-1]}, when: no}}"),
        ("query", f"{YES[:-1]}, unless: not_present}}".replace("v: v", "v: answer")),
        ("query", "{template: C1.one, slots: {cat: root, attr: attr}, answer: answer}"),
        ("list", YES.replace("v: v", "v: member")),
        ("which", YES.replace("v: v", "v: other").replace("yes", "no")),
        ("which", "{template: C1.one, slots: {cat: cat, attr: attr}, answer: v}"),
    ],
)
def test_rules_of_each_kind_are_read(tmp_path: Path, source: str, entails: str) -> None:
    (rule,) = pack(tmp_path, entails, source)
    assert rule.template in ("B2.one", "C1.one") and "cat" in rule.slots


def test_conditions_are_words_or_numbers(tmp_path: Path) -> None:
    both = pack(tmp_path, f"{YES[:-1]}, when: yes, unless: no}}")
    assert [(e.when, e.unless) for e in both] == [("yes", "no")]
    number = "{template: C8.one, slots: {cat: cat}, answer: answer, when: 0, unless: 3}"
    assert [(e.when, e.unless) for e in pack(tmp_path, number, "count")] == [("0", "3")]


@pytest.mark.parametrize(
    ("source", "entails", "problem"),
    [
        ("verify", "{template: B2.one, slots: {cat: cat}, answer: yes}", "B2.one has an unbound slot"),
        ("verify", "{template: B2.one, slots: {cat: cat, v: v, w: v}, answer: yes}", "B2.one stores no such slot"),
        ("verify", "{template: B2.one, slots: {cat: v, v: v}, answer: yes}", "a slot of .* B2.one is of another kind"),
        ("verify", "{template: B2.one, slots: {cat: cat, v: root}, answer: yes}", "is of another kind"),
        ("verify", "{template: B2.one, slots: {cat: cat, v: answer}, answer: yes}", "takes a slot or `answer`"),
        ("verify", "{template: B2.one, slots: {cat: cat, v: other}, answer: yes}", "takes a slot or `answer`"),
        ("query", "{template: B2.one, slots: {cat: cat, v: member}, answer: yes}", "takes a slot or `answer`"),
        ("list", "{template: B2.one, slots: {cat: cat, v: answer}, answer: yes}", "takes a slot or `answer`"),
        ("query", "{template: B2.one, slots: {cat: cat, v: answer}, answer: opposite}", "an entailed answer is"),
        ("query", "{template: B2.one, slots: {cat: cat, v: answer}, answer: answer}", "cannot have this answer"),
        ("query", "{template: C1.one, slots: {cat: cat, attr: attr}, answer: yes}", "cannot have this answer"),
        ("verify", "{template: C1.one, slots: {cat: cat, attr: attr}, answer: answer}", "cannot have this answer"),
        ("verify", f"{YES[:-1]}, when: maybe}}", "no answer that this question can have"),
        ("verify", f"{YES[:-1]}, when: true}}", "no answer that this question can have"),
        ("verify", f"{YES[:-1]}, when: 1}}", "no answer that this question can have"),
        ("verify", f"{YES[:-1]}, unless: not_present}}", "no answer that this question can have"),
        ("verify", f"{YES[:-1]}, unless: [no]}}", "no answer that this question can have"),
        ("verify", f"{YES[:-1]}, where: no}}", "unknown key"),
    ],
)
def test_rules_that_cannot_work_are_refused(tmp_path: Path, source: str, entails: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        pack(tmp_path, entails, source)
    assert caught.value.row is not None and "mine.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("program", "kind", "words"),
    [
        (f"verify({IT}, v)", "bool", ["yes", "no"]),
        ("label(attr)", "value", ["not_present"]),
        (f"category({IT})", "category", ["not_present"]),
        (f"region({IT})", "region", ["not_present"]),
        (f"list({IT}, attr)", "set", ["not_present"]),
        ("count(filter(scene, cat))", "int", [str(n) for n in range(33)]),
        ("which(exist(filter(scene, cat)), cat, exist(filter(scene, cat2)), cat2)", "category", ["not_present"]),
        ("which(exist(filter(scene, cat)), cat, exist(filter(scene, cat2)), v)", "option", ["not_present"]),
    ],
)
def test_what_a_program_answers(program: str, kind: str, words: list[str]) -> None:
    call = parse(program, KINDS)
    assert (answer_kind(call, KINDS), conditions(call)) == (kind, words)
    found = sources(call, KINDS)
    assert found["root"] == "category"
    assert ("answer" in found) == (kind in ("value", "category", "region"))
    assert ("other" in found) == (call.function == "which" and kind == "category")
    assert ("member" in found) == (kind == "set")


def test_a_slot_wins_over_a_word_of_its_name() -> None:
    call = parse(f"query({IT}, attr)", KINDS)
    assert sources(call, {**KINDS, "answer": "region"})["answer"] == "region"


def test_the_core_pack_entails_binary_questions_of_every_family_but_those_of_no_consequence() -> None:
    pack = load_packs([recipes.find("datagen/packs", "core")])
    silent = {t.id for t in pack.templates if not t.entails}
    assert silent == {"C6.plain", "G1.verify"}, "a new template says what follows from it, or stands here"
    implied = {pack.by_id(e.template).family for t in pack.templates for e in t.entails}
    assert implied == {"B1", "B2", "B3", "B4", "B5", "G1"}
