"""Reading vectors: by id, whole, nearest; lazily; and folders that are not what they say."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from fashionkit.tables import InputError, Manifest, write_manifest, write_table
from fashionkit.vectors import EmbeddingStore, schema, write_vectors
from tests.vectors.conftest import ODD, PARAMS, drawn
from tests.vectors.test_search import reference

Vectors = NDArray[np.float32]


def test_look_up_by_id(folder: Path, vectors: Vectors, ids: list[str]) -> None:
    store = EmbeddingStore(folder)
    assert (len(store), store.dim, store.dtype, store.ids) == (230, 24, folder.name, ids)
    asked = [*ODD[::-1], "img-219", ids[99], ids[100], ODD[0]]
    rows = [ids.index(name) for name in asked]
    found = store.get(asked)
    assert (found.shape, found.dtype) == ((14, 24), np.float32)
    if folder.name == "float32":
        assert np.array_equal(found, vectors[rows])
    else:
        assert np.abs(found - vectors[rows]).max() < 5e-4
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    for name, vector in zip(asked, found, strict=True):
        assert np.array_equal(store[name], vector)
    assert store.get([]).shape == (0, 24)
    assert np.array_equal(store.get(store.ids), store.to_numpy())


def test_ids_that_are_not_there_are_named(folder: Path) -> None:
    store = EmbeddingStore(folder)
    with pytest.raises(InputError, match=r"(?s)2 of 3 ids have no vector.*'nope', '\.\./nope'"):
        store.get(["img-1", "nope", "../nope"])
    with pytest.raises(InputError, match="no vector"):
        store["img-220"]
    with pytest.raises(InputError, match="list of ids"):
        store.get("img-1")
    with pytest.raises(InputError, match="by id"):
        store[0]  # type: ignore[index]
    assert store.rows(["img-1", "nope", "Größe 38"], missing="mark").tolist() == [11, -1, 1]
    assert "é" in store and "e\u0301" in store and "E" not in store


def test_arrays_and_tensors(folder: Path) -> None:
    store = EmbeddingStore(folder)
    array = store.to_numpy()
    assert array.shape == (230, 24) and array.flags.writeable
    tensor = store.to_torch()
    assert tuple(tensor.shape) == (230, 24) and np.array_equal(tensor.numpy(), array)
    array[:] = 0
    assert np.array_equal(store.to_numpy(), tensor.numpy()), "what was given away is the caller's own"


def test_nearest_equals_the_reference(folder: Path, ids: list[str]) -> None:
    store = EmbeddingStore(folder)
    base = store.to_numpy()
    asked = ["img-30", "img-31", ODD[3], "img-215", "img-7"]  # rows 40, 41, 3, 225, 17
    for exclude_self in (False, True):
        own = store.rows(asked).tolist() if exclude_self else None
        rows, scores = reference(base[store.rows(asked)], base, 12, own)
        for block in (1, 50, 8192):
            found, cosines = store.nearest(asked, 12, exclude_self, block)
            assert found == [[ids[row] for row in line] for line in rows]
            assert cosines.tolist() == scores
    assert found[0][0] == "img-31" and found[1][0] == "img-30"
    assert found[2][:10] == ids[220:] and found[3][:3] == [ODD[3], *ids[220:222]], "ties go by row"


def test_ids_vectors_batches_and_scales_give_the_same(folder: Path) -> None:
    store = EmbeddingStore(folder)
    asked = store.ids[5:25]
    names, scores = store.nearest(asked, 7)
    by_vector = store.nearest(store.get(asked), 7)
    assert by_vector[0] == names and np.array_equal(by_vector[1], scores)
    assert store.nearest(np.array(asked), 7)[0] == names
    for number, name in enumerate(asked):
        single = store.nearest([name], 7)
        assert single[0][0] == names[number] and np.array_equal(single[1][0], scores[number])
    assert store.nearest(store.get(asked).astype(np.float64) * 1000, 7)[0] == names
    assert store.nearest(store.get(asked), 1000)[1].shape == (20, 230)
    assert store.nearest(asked, 1000, exclude_self=True)[1].shape == (20, 229)
    assert store.nearest([], 3)[0] == []


@pytest.mark.parametrize(
    ("queries", "options", "words"),
    [
        (["nope"], {}, "'nope'"),
        ("img-1", {}, "not one text"),
        (drawn(2, 23), {}, "another dimension than 24"),
        (np.zeros((1, 24)), {}, "zeros has no direction"),
        (np.full((1, 24), np.nan), {}, "NaN"),
        (drawn(1)[0], {}, "shape"),
        (drawn(2), {"exclude_self": True}, "by id"),
        (["img-1"], {"k": 0}, "k must be"),
        (["img-1"], {"block": -1}, "block must be"),
        (["img-1", 3], {}, "must be numbers"),
    ],
)
def test_queries_that_cannot_be(folder: Path, queries: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        EmbeddingStore(folder).nearest(queries, **options)


def test_memory_is_bounded_and_copies_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vectors: Vectors, ids: list[str]
) -> None:
    monkeypatch.setattr(schema, "GROUP_ROWS", 16)
    write_vectors(tmp_path / "v", [(ids, vectors)], PARAMS, "float32")
    store = EmbeddingStore(tmp_path / "v", cache_mib=0)
    decoded: list[int] = []
    decode = store._decoded
    monkeypatch.setattr(store, "_decoded", lambda path, group: decoded.append(group) or decode(path, group))
    assert decoded == [] and np.array_equal(store.get([ids[17], ids[20], ids[229]]), vectors[[17, 20, 229]])
    assert decoded == [1, 14], "only the row groups that were asked for"
    wanted = store.nearest_rows(ids[:9], 5)
    assert all(np.array_equal(a, b) for a, b in zip(store.nearest_rows(ids[:9], 5, block=16), wanted, strict=True))
    assert len(store._cache) == 1
    again = pickle.loads(pickle.dumps(EmbeddingStore(tmp_path / "v")))
    assert np.array_equal(again.to_numpy(), vectors)
    again.to_numpy()
    assert len(again._cache) == 15


def _copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_damaged_folders(folder: Path, tmp_path: Path) -> None:
    copy = _copy(folder, tmp_path)
    part = copy / "vectors" / "part-00002.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"part-00002\.parquet: the file has another size"):
        EmbeddingStore(copy)
    part.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises(InputError, match=r"part-00002\.parquet: the file is damaged"):
        EmbeddingStore(copy)
    part.write_bytes(whole)
    (copy / "vectors" / "part-00003.parquet").write_bytes(whole)
    with pytest.raises(InputError, match=r"part-00003\.parquet: the manifest does not list"):
        EmbeddingStore(copy)
    (copy / "vectors" / "part-00003.parquet").unlink()
    part.unlink()
    with pytest.raises(InputError, match=r"part-00002\.parquet: a file of the manifest is missing"):
        EmbeddingStore(copy)


def test_other_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        EmbeddingStore(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    write_manifest(tmp_path / "other", Manifest("catalog", 1))
    with pytest.raises(InputError, match="'catalog' folder, and a 'vectors' folder"):
        EmbeddingStore(tmp_path / "other")
    copy = _copy(folder, tmp_path)
    raw = json.loads((copy / "manifest.json").read_text())
    for changes, words in (
        ({"dim": 23}, "not 23 x"),
        ({"dim": "24"}, "must name"),
        ({"dtype": "int8"}, "must name"),
        ({"normalized": False}, "must name"),
    ):
        (copy / "manifest.json").write_text(json.dumps({**raw, "params": {**raw["params"], **changes}}))
        with pytest.raises(InputError, match=words):
            EmbeddingStore(copy)
    (copy / "manifest.json").write_text(json.dumps({**raw, "schema": 2}))
    with pytest.raises(InputError, match="newer"):
        EmbeddingStore(copy)


def _manifest() -> Manifest:
    return Manifest("vectors", 1, params={**PARAMS, "dim": 2, "dtype": "float32", "normalized": True})


def _foreign(folder: Path, ids: list[str | None], vectors: list[list[float] | None], dim: int = 2) -> EmbeddingStore:
    """A folder that something else than `write_part` filled."""
    table = pa.table({"id": pa.array(ids, pa.string()), "vector": pa.array(vectors, pa.list_(pa.float32(), dim))})
    write_table(folder / "vectors" / "part-00000.parquet", table)
    write_manifest(folder, _manifest())
    return EmbeddingStore(folder)


def test_what_others_wrote_is_checked_when_it_is_read(tmp_path: Path) -> None:
    good = [[1.0, 0.0], [0.0, 1.0]]
    assert _foreign(tmp_path / "good", ["a", "b"], good)["b"].tolist() == [0, 1]
    for name, bad in (("nan", [np.nan, 0.0]), ("inf", [np.inf, 0.0]), ("long", [1.0, 1.0]), ("zero", [0.0, 0.0])):
        with pytest.raises(InputError, match=r"norm other than 1 \(the 2\."):
            _foreign(tmp_path / name, ["a", "b"], [good[0], bad]).nearest(["a"], 1)
    with pytest.raises(InputError, match="null"):
        _foreign(tmp_path / "null", ["a", "b"], [good[0], None]).to_numpy()
    with pytest.raises(InputError, match="not 2 x float32"):
        _foreign(tmp_path / "wide", ["a"], [[1.0, 0.0, 0.0]], 3)
    for name, ids in (("twice", ["a", "a"]), ("no_id", ["a", None])):
        with pytest.raises(InputError, match="null or there twice"):
            _foreign(tmp_path / name, ids, good).get(["a"])
    empty = _foreign(tmp_path / "empty", [], [])
    assert len(empty) == 0 and empty.to_numpy().shape == (0, 2)
    assert empty.nearest(np.array([[1.0, 0.0]]), 3)[0] == [[]]
    table = pa.table({"id": ["a"], "vector": [[1.0, 0.0]]})  # a list of any length
    write_table(tmp_path / "good" / "vectors" / "part-00000.parquet", table)
    write_manifest(tmp_path / "good", _manifest())
    with pytest.raises(InputError, match=r"(?s)fixed-size list.*vector list"):
        EmbeddingStore(tmp_path / "good")


def test_float16_keeps_order_and_costs_little(tmp_path: Path) -> None:
    vectors = drawn(400, 256, seed=5)
    names = [f"i{n}" for n in range(400)]
    write_vectors(tmp_path / "half", [(names, vectors)], PARAMS, "float16")
    store = EmbeddingStore(tmp_path / "half")
    found, cosines = store.nearest(names, 1)
    assert [line[0] for line in found] == names and np.allclose(cosines, 1, atol=3e-7)
    exact = vectors @ vectors.T
    assert np.abs(store.to_numpy() @ store.to_numpy().T - exact).max() < 3e-4
    assert pq.read_metadata(tmp_path / "half" / "vectors" / "part-00000.parquet").num_rows == 400


def test_reading_loads_neither_torch_nor_faiss() -> None:
    code = "import sys, fashionkit.vectors; print({'torch', 'faiss'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
