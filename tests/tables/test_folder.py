"""Folders with a manifest: what differs is found, and what cannot be read is refused with words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fashionkit.tables import (
    MANIFEST,
    InputError,
    Manifest,
    part_path,
    read_manifest,
    read_table,
    verify,
    write_manifest,
    write_table,
    write_text,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished folder: two parts of three and two rows, and a text."""
    made = tmp_path / "made"
    write_table(part_path(made, "items", 0), pa.table({"id": ["a", "b", "c"], "n": [1, 2, 3]}))
    write_table(part_path(made, "items", 1), pa.table({"id": ["d", "e"], "n": [4, 5]}))
    write_text(made / "words.yaml", "a: 1\n")
    write_manifest(made, Manifest("catalog", 2, inputs={"src": "00"}, counts={"items": 5}, params={"seed": 1}))
    return made


def _edit(folder: Path, **changes: Any) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**raw, **changes}))


def test_a_fresh_folder_is_as_written(folder: Path) -> None:
    assert verify(folder) == []
    manifest = read_manifest(folder, "catalog", 2)
    assert {name: entry.get("rows") for name, entry in manifest.files.items()} == {
        "items/part-00000.parquet": 3,
        "items/part-00001.parquet": 2,
        "words.yaml": None,
    }
    assert read_table(folder, "items")["n"].to_pylist() == [1, 2, 3, 4, 5]


def test_verify_names_changed_missing_and_extra_files(folder: Path) -> None:
    path = folder / "words.yaml"
    path.write_text("a: 2\n")  # of the same length, so that only the checksum can tell
    part_path(folder, "items", 1).unlink()
    (folder / "items" / "part-00007.parquet").write_bytes(b"new")
    (folder / ".hidden").write_text("no content")
    assert sorted(verify(folder)) == [
        "items/part-00001.parquet: missing",
        "items/part-00007.parquet: not in the manifest",
        "words.yaml: changed since it was written",
    ]


def test_content_hash_follows_content_not_provenance(folder: Path) -> None:
    before = read_manifest(folder)
    write_manifest(folder, Manifest("catalog", 2, about={"note": "again"}))
    assert read_manifest(folder).content_hash() == before.content_hash()
    write_text(folder / "words.yaml", "a: 3\n")
    write_manifest(folder, Manifest("catalog", 2))
    assert read_manifest(folder).content_hash() != before.content_hash()


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "items/../../outside.txt", "nul\0byte"])
def test_paths_that_lead_outside_are_reported_and_not_read(folder: Path, name: str) -> None:
    (folder.parent / "outside.txt").write_text("x")
    _edit(folder, files={name: {"sha256": "00", "bytes": 1}})
    assert f"{name}: leads outside the folder" in verify(folder)


def test_a_link_that_leads_outside_is_reported(folder: Path) -> None:
    outside = folder.parent / "outside.txt"
    outside.write_text("a: 1\n")
    (folder / "words.yaml").unlink()
    (folder / "words.yaml").symlink_to(outside)
    assert verify(folder) == ["words.yaml: leads outside the folder"]


def test_other_kinds_and_newer_schemas_are_refused_with_words(folder: Path) -> None:
    with pytest.raises(InputError, match="'catalog' folder, and a 'questions' folder is needed"):
        read_manifest(folder, "questions")
    with pytest.raises(InputError, match=r"schema 2 .* is newer than the 1(.|\n)*update fashionkit"):
        read_manifest(folder, "catalog", 1)
    with pytest.raises(InputError, match=r"older than the 4(.|\n)*make the folder again"):
        read_manifest(folder, "catalog", 4, {2: lambda _, raw: {**raw, "schema": 3}})


def test_older_schemas_are_migrated_step_by_step(folder: Path) -> None:
    def to_3(_: Path, raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "schema": 3, "counts": {"garments": raw["counts"]["items"]}}

    def to_4(at: Path, raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "schema": 4, "about": {"at": at.name}}

    manifest = read_manifest(folder, "catalog", 4, {2: to_3, 3: to_4})
    assert (manifest.schema, manifest.counts, manifest.about) == (4, {"garments": 5}, {"at": "made"})


@pytest.mark.parametrize(
    "text",
    [
        "", "not json", "[]", "null", '"x"', "{}", '{"kind": 1, "schema": 1}', '{"kind": "a", "schema": true}',
        '{"kind": "a", "schema": "1"}', '{"kind": "a", "schema": 1, "files": []}',
        '{"kind": "a", "schema": 1, "counts": 3}',
        '{"kind": "a", "schema": 1, "files": {"x": {}}}', '{"kind": "a", "schema": 1, "files": {"x": {"bytes": "1"}}}',
        "[" * 100_000, '{"kind": "a", "schema": ' + "9" * 5000 + "}",
    ],
)  # fmt: skip
def test_damaged_manifests_are_input_errors(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="manifest") as caught:
        verify(folder)
    assert caught.value.file == folder / MANIFEST


def test_manifest_in_another_encoding(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b'{"kind": "caf\xe9", "schema": 1}')
    with pytest.raises(InputError, match="damaged"):
        read_manifest(folder)


def test_unfinished_and_absent_folders(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"not finished(.|\n)*it continues"):
        read_manifest(folder)
    with pytest.raises(InputError, match="no such folder"):
        read_manifest(folder / "nowhere")


def test_reading_tables_that_are_not_there_or_damaged(folder: Path) -> None:
    with pytest.raises(InputError, match="no table 'labels'"):
        read_table(folder, "labels")
    with pytest.raises(InputError, match="column is missing") as caught:
        read_table(folder, "items", ["id", "colour"])
    assert "n" in (caught.value.allowed or [])
    part_path(folder, "items", 1).write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="damaged") as caught:
        read_table(folder, "items")
    assert caught.value.file == part_path(folder, "items", 1)


def test_columns_are_chosen(folder: Path) -> None:
    assert read_table(folder, "items", ["n"]).column_names == ["n"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
_KEYS = st.sampled_from(["made_by", "params", "inputs", "counts", "about", "files", "provenance", "more"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(_KEYS, _JSON))
def test_any_manifest_is_read_or_refused(folder: Path, wild: dict[str, Any]) -> None:
    text = json.dumps({"kind": "a", "schema": 1, **wild})
    (folder / MANIFEST).write_text(text)
    try:
        problems = verify(folder)
    except InputError as error:
        assert error.file == folder / MANIFEST
    else:
        assert len(problems) >= 3, "none of the folder's three files is listed"
