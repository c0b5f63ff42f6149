"""Writing vectors: what is on disk, continuing part by part, and what is never written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.tables import InputError, read_manifest, read_table, sha256_file, verify
from fashionkit.vectors import EmbeddingStore, finish_vectors, unit, write_part, write_rejects, write_vectors
from tests.vectors.conftest import PARAMS, drawn


def test_the_table_is_as_documented(folder: Path, ids: list[str]) -> None:
    path = folder / "vectors" / "part-00002.parquet"
    schema = pq.read_schema(path)
    number = pa.float16() if folder.name == "float16" else pa.float32()
    assert schema.names == ["id", "vector"] and not any(field.nullable for field in schema)
    assert schema.field("vector").type == pa.list_(pa.field("element", number, nullable=False), 24)
    assert read_table(folder, "vectors", ["id"])["id"].to_pylist() == ids
    column = pq.read_metadata(path).row_group(0).column(1)
    assert column.compression == "UNCOMPRESSED" and "RLE_DICTIONARY" not in column.encodings
    manifest = read_manifest(folder, "vectors", 1)
    assert manifest.params == {**PARAMS, "dim": 24, "dtype": folder.name, "normalized": True}
    assert manifest.counts == {"vectors": 230, "rejects": 0} and verify(folder) == []


def test_a_killed_run_continues_and_gives_the_same_bytes(tmp_path: Path) -> None:
    vectors = drawn(30)
    names = [f"i{n}" for n in range(30)]
    for folder, order in (("straight", [0, 1, 2]), ("killed", [2, 0, 1, 0])):
        for n in order:
            write_part(tmp_path / folder, n, names[10 * n : 10 * n + 10], vectors[10 * n : 10 * n + 10])
        write_rejects(tmp_path / folder, 0, [("torn", "image_truncated")])
        with pytest.raises(InputError, match="not finished"):
            EmbeddingStore(tmp_path / folder)
        finish_vectors(tmp_path / folder, PARAMS, {"catalog": "11"}, {"licence": "none"})
    one, other = (read_manifest(tmp_path / name) for name in ("straight", "killed"))
    assert one.content_hash() == other.content_hash() and one.counts == {"vectors": 30, "rejects": 1}
    assert (one.inputs, one.about) == ({"catalog": "11"}, {"licence": "none"})
    assert read_table(tmp_path / "killed", "rejects").to_pylist() == [{"id": "torn", "reason": "image_truncated"}]
    store = EmbeddingStore(tmp_path / "killed")
    assert "torn" not in store and list(store) == names


def _broken(value: float) -> np.ndarray[Any, Any]:
    vectors = drawn(3)
    vectors[1, 5] = value
    return vectors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vectors": _broken(np.nan)}, "row 2: a vector holds NaN"),
        ({"vectors": _broken(np.inf)}, "row 2: a vector holds NaN"),
        ({"vectors": _broken(3)}, "(?s)row 2: a vector has a norm other than 1.*vectors.unit"),
        ({"vectors": np.zeros((3, 24))}, "row 1: a vector has a norm other than 1"),
        ({"vectors": drawn(2)}, "3 ids, 2 vectors"),
        ({"vectors": drawn(3)[0]}, r"\(24,\)"),
        ({"vectors": np.empty((3, 0))}, r"\(3, 0\)"),
        ({"vectors": np.array([["a"], ["b"], ["c"]])}, "must be numbers"),
        ({"ids": ["a", "b", "a"]}, "(?s)twice.*found: a"),
        ({"ids": ["a", "", "c"]}, "row 2: an id must be a text"),
        ({"ids": ["a", 7, "c"]}, "row 2: an id must be a text"),
        ({"ids": ["a", "b\ud800", "c"]}, "(?s)not valid Unicode.*ud800"),
        ({"dtype": "int8"}, "(?s)no such type.*float16"),
        ({"number": -1}, "part numbers"),
        ({"number": 100_000}, "part numbers"),
    ],
)
def test_a_bad_part_is_refused_and_not_written(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    arguments = {"number": 0, "ids": ["a", "b", "c"], "vectors": drawn(3), "dtype": "float32", **changes}
    with pytest.raises(InputError, match=words):
        write_part(tmp_path, **arguments)
    assert not list(tmp_path.rglob("*.parquet"))


def test_parts_must_agree(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table 'vectors'"):
        finish_vectors(tmp_path, PARAMS)
    write_part(tmp_path, 0, [], np.empty((0, 24)))
    with pytest.raises(InputError, match="not one vector"):
        finish_vectors(tmp_path, PARAMS)
    write_part(tmp_path, 0, ["a", "b"], drawn(2))
    for vectors, dtype in ((drawn(2, 23), "float16"), (drawn(2), "float32")):
        write_part(tmp_path, 1, ["c", "d"], vectors, dtype)
        with pytest.raises(InputError, match=r"part-00001.*part-00000\.parquet has 24 x float16"):
            finish_vectors(tmp_path, PARAMS)
    write_part(tmp_path, 1, ["c", "b"], drawn(2))
    with pytest.raises(InputError, match=r"(?s)twice.*found: b"):
        finish_vectors(tmp_path, PARAMS)
    write_part(tmp_path, 1, ["c", "d"], drawn(2))
    write_rejects(tmp_path, 0, [("a", "image_truncated")])
    with pytest.raises(InputError, match=r"(?s)twice.*found: a"):
        finish_vectors(tmp_path, PARAMS)
    write_rejects(tmp_path, 0, [])
    with pytest.raises(InputError, match="lack fingerprint"):
        finish_vectors(tmp_path, {"model": "m"})
    assert finish_vectors(tmp_path, PARAMS).counts == {"vectors": 4, "rejects": 0}


def test_write_vectors_leaves_nothing_half_done_and_overwrites_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NaN"):
        write_vectors(tmp_path, [(["a", "b", "c"], drawn(3)), (["d", "e", "f"], _broken(np.nan))], PARAMS)
    assert not list(tmp_path.rglob("*.parquet"))
    write_vectors(tmp_path, [(["a", "b", "c"], drawn(3))], PARAMS)
    before = sha256_file(tmp_path / "vectors" / "part-00000.parquet")
    with pytest.raises(InputError, match="something already"):
        write_vectors(tmp_path, [(["x", "y", "z"], drawn(3))], PARAMS)
    assert sha256_file(tmp_path / "vectors" / "part-00000.parquet") == before


def test_unit() -> None:
    raw = np.array([[3, 4], [0, -2]])
    assert unit(raw).tolist() == [[np.float32(0.6), np.float32(0.8)], [0, -1]]
    once = drawn(500)
    assert np.array_equal(unit(once), once)
    assert np.allclose(unit([[1e30, 1e30]]), 0.5**0.5)
    for bad, words in (([[1, 0], [0, 0]], "row 2: a vector of zeros"), ([[np.nan, 1]], "NaN"), ([1, 0], "shape")):
        with pytest.raises(InputError, match=words):
            unit(bad)
