"""The program language: what is parsed, and what is refused before it could ever run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionkit.datagen.expression import FUNCTIONS, SIGNATURES, Call, ProgramError, Slot, parse
from fashionkit.datagen.program import Runner

SLOTS = {"cat": "category", "v": "value", "w": "value", "attr": "attribute", "region": "region"}


def test_a_program_becomes_its_tree() -> None:
    cat = Call("filter", (Call("scene"), Slot("cat")))
    assert parse("verify(unique(filter(scene, cat)), v)", SLOTS) == Call("verify", (Call("unique", (cat,)), Slot("v")))


def test_spaces_do_not_matter_and_the_text_comes_back() -> None:
    text = "which(verify(unique(filter(scene, cat)), v), v, label_is(w), w)"
    tree = parse("  which( verify(unique(filter(scene,cat)),v) ,v,\n label_is( w ),w )  ", SLOTS)
    assert tree.text() == text and parse(text, SLOTS) == tree


def test_calls_come_parents_first() -> None:
    tree = parse("not(exist(filter(filter(scene, cat), v)))", SLOTS)
    assert [c.function for c in tree.calls()] == ["not", "exist", "filter", "filter", "scene"]
    assert tree.functions() == {"not", "exist", "filter", "scene"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "ends too early"),
        ("exist(filter(scene, cat)", "not closed"),
        ("exist(filter(scene, cat)))", "follows the end"),
        ("exist(filter(scene, cat)) cat", "follows the end"),
        ("exist(filter(scene))", "filter takes 2 arguments"),
        ("exist(filter(scene, cat, v))", "not closed after 2"),
        ("exist(filter(scene, attr))", "takes a slot that is category|value|region"),
        ("query(unique(scene), v)", "takes a slot that is attribute"),
        ("exist(filter(scene, hat))", "needs a slot here, found 'hat'"),
        ("exist(filter(scene, exist))", "needs a slot"),
        ("exist(cat)", "unknown function 'cat'"),
        ("exist(unique(scene))", "exist needs items here, and unique gives item"),
        ("and(exist(scene), count(scene))", "and needs bool here, and count gives answer"),
        ("unique(scene)", "the program gives item, and an answer is needed"),
        ("scene", "the program gives items"),
        ("exist.__class__(scene)", "unexpected character '.' at position 6"),
        ("exist(scene); exist(scene)", "unexpected character ';'"),
        ("exist('scene')", "unexpected character"),
        ("exist[scene]", "unexpected character"),
        ("lambda", "unknown function 'lambda'"),
        ("Exist(scene)", "unexpected character 'E'"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ProgramError) as caught:
        parse(text, SLOTS)
    assert problem in str(caught.value)


@pytest.mark.parametrize(("name", "types"), [(n, t) for n, (t, _) in SIGNATURES.items()], ids=list(SIGNATURES))
def test_every_function_with_one_argument_less_is_refused(name: str, types: tuple[str, ...]) -> None:
    given = {"items": "scene", "item": "unique(scene)", "bool": "exist(scene)"}
    arguments = [given.get(t, "attr" if "attribute" in t else "v") for t in types]
    if SIGNATURES[name][1] in ("bool", "answer"):
        assert parse(f"{name}({', '.join(arguments)})", SLOTS).function == name
    with pytest.raises(ProgramError):
        parse(f"{name}({', '.join(arguments[:-1])})" if types else f"{name}(v)", SLOTS)


def test_the_runner_knows_every_function_of_the_language() -> None:
    assert all(callable(getattr(Runner, f"_{name}")) for name in FUNCTIONS)


@given(st.lists(st.sampled_from([*sorted(FUNCTIONS), *SLOTS, "(", ")", ",", " "]), max_size=25).map("".join))
def test_any_text_parses_to_a_fitting_tree_or_is_a_program_error(text: str) -> None:
    try:
        tree = parse(text, SLOTS)
    except ProgramError:
        return
    assert parse(tree.text(), SLOTS) == tree
    for call in tree.calls():
        assert len(call.arguments) == len(SIGNATURES[call.function][0])


def test_deep_nesting_is_an_error_or_a_tree_and_no_crash() -> None:
    deep = "not(" * 200 + "exist(scene)" + ")" * 200
    assert len(parse(deep, SLOTS).calls()) == 202
