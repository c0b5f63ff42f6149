"""The YAML reader: what people mean is what is read, every refusal names the line, and no text brings it down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionkit.tables import InputError
from fashionkit.tables.yamls import MAX_BYTES, MAX_DEPTH, load_yaml, parse_yaml


@pytest.mark.parametrize(
    "word", ["no", "off", "on", "yes", "y", "n", "1:30", "2024-01-01", "007", "1.2.3", "0x1F", "NaN"]
)
def test_words_stay_words(word: str) -> None:
    assert parse_yaml(f"{word}: [{word}]", "f")[0] == {word: [word]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("False", False), ("~", None), ("null", None), ("", None), ("12", 12), ("-4", -4),
        ("1_500_000", 1_500_000), ("1e-4", 1e-4), (".5", 0.5), ("2.", 2.0), ("'12'", "12"), ('"true"', "true"),
    ],
)  # fmt: skip
def test_numbers_and_booleans(text: str, value: object) -> None:
    found = parse_yaml(f"a: {text}", "f")[0]["a"]
    assert found == value
    assert type(found) is type(value)


def test_lines_of_keys_and_entries(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# head\na: 1\nlist:\n  - x\n  - {k: 1,\n     m: 2}\n7: seven\n", encoding="utf-8")
    data, lines = load_yaml(path)
    assert data == {"a": 1, "list": ["x", {"k": 1, "m": 2}], 7: "seven"}
    places = [("a",), ("list",), ("list", 0), ("list", 1), ("list", 1, "m"), (7,)]
    assert [lines.of(*place) for place in places] == [2, 3, 4, 5, 6, 7]
    assert lines.of("list", 1, "nothing", "deeper") == 5, "the nearest parent stands in"
    assert lines.of("nothing") == 2


@pytest.mark.parametrize(
    ("text", "row", "words"),
    [
        ("", None, "empty"),
        ("# only a comment\n", None, "empty"),
        ("a: 1\nb: 2\na: 3\n", 3, "line 1"),
        ("a: 1\nb: &x 2\n", 2, "anchors"),
        ("a: &x [1]\nb: *x\n", 1, "anchors"),
        ("a: !!python/name:os.system ''\n", 1, "tags"),
        ("a: 1\nb: [1, 2\n", 3, "not YAML"),
        ("a:\n\t- b\n", 2, "not YAML"),
        ("a: b: c\n", 1, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: 1\n? [1]\n: 2\n", 2, "key"),
        ("true: 1\n", 1, "key"),
        ("~: 1\n", 1, "key"),
        ("a: 1\nb: \x07\n", 2, "character"),
        ("a: 99999999999999999999\n", 1, "too large"),
        ("a: 1e999\n", 1, "too large"),
        ("a: " + "9" * 5000, 1, "too large"),
    ],
)
def test_refusals_name_the_line(text: str, row: int | None, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse_yaml(text, "f.yaml")
    assert (caught.value.file, caught.value.row) == ("f.yaml", row)


def test_depth_is_limited() -> None:
    deepest = "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH
    assert parse_yaml(deepest, "f")[0] is not None
    with pytest.raises(InputError, match="deeper"):
        parse_yaml(f"[{deepest}]", "f")
    with pytest.raises(InputError, match="deeper"):
        parse_yaml("[" * 100_000, "f")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    with pytest.raises(InputError, match="no such file"):
        load_yaml(path)
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(InputError, match="UTF-8") as caught:
        load_yaml(path)
    assert caught.value.row == 2
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="at most"):
        load_yaml(path)


def test_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load_yaml(path)[0] == {"a": 1}


_TEXTS = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF))
_LEAVES = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | _TEXTS
_TREES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4)
)


@given(_TREES)
def test_json_reads_back_as_itself(tree: object) -> None:
    text = json.dumps({"tree": tree})  # quoted, ASCII: YAML but for pairs of surrogate escapes
    assert parse_yaml(text, "f")[0] == {"tree": tree}


@given(st.text(st.sampled_from("ab:-[]{}#&*!|>'\"%@,?\n \t0.~é"), max_size=60))
def test_any_text_is_data_or_an_input_error(text: str) -> None:
    try:
        _, lines = parse_yaml(text, "f")
    except InputError as error:
        assert error.file == "f"
    else:
        assert min(lines.at.values()) >= 1
