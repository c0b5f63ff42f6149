"""Tables as people have them, and as they should not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.catalog.mapping import TableSpec
from fashionkit.catalog.tabular import ROW, Source, open_table
from fashionkit.tables import InputError


def rows(source: Source, *columns: str) -> list[list[Any]]:
    tables = list(source.batches(list(columns)))
    return [[batch[name][i].as_py() for name in batch.column_names] for batch in tables for i in range(len(batch))]


def table(folder: Path, data: str | bytes, name: str = "t.csv", **spec: Any) -> Source:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return open_table(path, TableSpec(**spec))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_dialects_of_csv(tmp_path: Path, delimiter: str, newline: str, mark: str) -> None:
    lines = [["id", "type", "say"], ["1", "Café", f'"a{delimiter} ""b"""'], ["2", "", "c"]]
    source = table(tmp_path, mark + "".join(delimiter.join(line) + newline for line in lines))
    assert source.names == ["id", "type", "say"]
    assert rows(source, "id", "type", "say") == [[2, "1", "Café", f'a{delimiter} "b"'], [3, "2", "", "c"]]


def test_a_quoted_newline_is_part_of_its_cell_and_rows_keep_their_line(tmp_path: Path) -> None:
    source = table(tmp_path, 'id,say\n1,"two\nlines"\n\n2,x\n')
    assert rows(source, "id", "say") == [[2, "1", "two\nlines"], [5, "2", "x"]]


def test_a_stated_delimiter_wins_over_the_header(tmp_path: Path) -> None:
    assert table(tmp_path, "id|a,b,c\n1|2\n", delimiter="|").names == ["id", "a,b,c"]


def test_rows_that_are_not_utf8_are_refused_alone(tmp_path: Path) -> None:
    source = table(tmp_path, b"id,colour\n1,red\n2,caf\xe9\n3,blue\n")
    assert [row[1] for row in rows(source, "id")] == ["1", "3"]
    assert [(row, why.reason) for row, why in source.broken] == [(3, "not_utf8")]


def test_encodings(tmp_path: Path) -> None:
    assert rows(table(tmp_path, "id,c\n1,café\n".encode("cp1252"), encoding="cp1252"), "c") == [[2, "café"]]
    wide = "id,c\n1,café\n".encode("utf-16")
    assert rows(table(tmp_path, wide, encoding="utf-16"), "c") == [[2, "café"]]
    with pytest.raises(InputError, match="UTF-16") as caught:
        table(tmp_path, wide)
    assert "utf-16" in str(caught.value.hint)
    with pytest.raises(InputError, match="header"):
        table(tmp_path, b"id,caf\xe9\n1,2\n")


def test_rows_of_another_width_are_refused(tmp_path: Path) -> None:
    source = table(tmp_path, "id,c\n1,red,extra\n2\n3,blue\n")
    assert rows(source, "id") == [[4, "3"]]
    assert [(row, why.reason) for row, why in source.broken] == [(2, "cell_count"), (3, "cell_count")]


def test_a_quote_that_never_closes_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not end") as caught:
        table(tmp_path, 'id,c\n1,red\n2,"blue\n' + "3,green\n" * 50)
    assert caught.value.row == 3
    with pytest.raises(InputError, match="does not end"):
        table(tmp_path, 'id,c\n2,"blue\n' + "3,green\n" * 50_000)


@pytest.mark.parametrize(
    ("data", "name", "problem"),
    [
        ("", "t.csv", "empty"),
        ("", "t.parquet", "empty"),
        ("\n\n", "t.csv", "no header"),
        ("id,type,id\n1,2,3\n", "t.csv", "twice"),
        ("PAR1 nonsense", "t.parquet", "damaged or not Parquet"),
        ("[1]\n{]\n", "t.jsonl", "no line of the file"),
        ("id\n1\n", "t.xlsx", "kind of table"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, data: str, name: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        table(tmp_path, data, name)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_table(tmp_path / "t.csv")


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nearest allowed: 'colour'"):
        table(tmp_path, "id,colour\n1,red\n").require(["color"])


def test_json_lines(tmp_path: Path) -> None:
    good = [{"id": 1, "n": 2.0, "x": None, "on": True, "t": ["a", "b"]}, {"id": "2", "n": float("nan"), "t": "c"}]
    lines = [
        json.dumps(good[0]),
        "",
        "{no json",
        json.dumps(good[1]),
        "[1, 2]",
        '{"id": 3, "id": 4}',
        '{"id": {"a": 1}}',
    ]
    source = table(tmp_path, "\n".join(lines), "t.jsonl")
    assert rows(source, "id", "n", "x", "on", "t") == [
        [1, "1", "2", None, "true", ["a", "b"]],
        [4, "2", None, None, None, ["c"]],
    ]
    assert [(row, why.reason) for row, why in source.broken] == [(n, "bad_row") for n in (3, 5, 6, 7)]


def test_json_lines_that_are_not_utf8_or_too_deep(tmp_path: Path) -> None:
    source = table(tmp_path, b'{"id": "a"}\n{"id": "\xff"}\n' + b"[" * 100_000 + b"\n", "t.jsonl")
    assert [why.reason for _, why in source.broken] == ["not_utf8", "bad_row"]


def test_parquet_columns_become_words(tmp_path: Path) -> None:
    columns = {
        "i": pa.array([1, None, 3]),
        "f": pa.array([1.0, float("nan"), 2.5]),
        "b": pa.array([True, False, None]),
        "d": pa.array(["x", "y", "x"]).dictionary_encode(),
        "l": pa.array([["a"], None, ["b", "c"]]),
        "picture": pa.array([b"1", b"2", None]),
        "hf": pa.array([{"bytes": b"1", "path": "p"}, {"bytes": b"2", "path": "q"}, None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    source = open_table(tmp_path / "t.parquet")
    assert rows(source, "i", "f", "b", "d", "l") == [
        [1, "1", "1", "true", "x", ["a"]],
        [2, None, None, "false", "y", None],
        [3, "3", "2.5", None, "x", ["b", "c"]],
    ]
    batch = next(iter(source.batches([], ["picture", "hf"])))
    assert batch.column(1).to_pylist() == batch.column(2).to_pylist() == [b"1", b"2", None]
    with pytest.raises(InputError, match="no words") as caught:
        list(source.batches(["picture"]))
    assert "image.bytes" in str(caught.value.hint)
    with pytest.raises(InputError, match="encoded pictures"):
        list(source.batches([], ["d"]))


def test_sliced_lists_keep_their_place(tmp_path: Path) -> None:
    lists = pa.array([[str(i), "x"] for i in range(3000)])
    pq.write_table(pa.table({"l": lists}), tmp_path / "t.parquet", row_group_size=700)
    assert [row[1][0] for row in rows(open_table(tmp_path / "t.parquet"), "l")] == [str(i) for i in range(3000)]


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"c": bad}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="UTF-8"):
        list(open_table(tmp_path / "t.parquet").batches(["c"]))


def test_a_text_table_has_no_bytes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot hold pictures"):
        list(table(tmp_path, "id,c\n1,2\n").batches(["id"], ["c"]))


def test_rows_are_numbered_from_the_first(tmp_path: Path) -> None:
    pq.write_table(pa.table({"c": [str(i) for i in range(2500)]}), tmp_path / "t.parquet")
    batches = list(open_table(tmp_path / "t.parquet").batches(["c"]))
    assert len(batches) > 1 and pa.concat_tables(batches)[ROW].to_pylist() == list(range(1, 2501))
