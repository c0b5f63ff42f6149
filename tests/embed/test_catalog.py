"""Embedding a catalogue: vectors under picture ids, the same for any number of workers and after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit import Embedder
from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.cli import main
from fashionkit.embed import catalog as module
from fashionkit.embed.catalog import EmbedOptions, embed_catalog
from fashionkit.tables import InputError, read_manifest, read_table, verify, write_table
from fashionkit.vectors import EmbeddingStore, write_part

OPTIONS = EmbedOptions("timm/mobilenetv3_small_050", "random:3", 64, "float32", shard=7, batch=3)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogues") / "drawn"
    draw_catalog(path, DrawOptions(24, size=64))
    return path


@pytest.fixture(scope="module")
def embedded(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vectors") / "out"
    embed_catalog(catalog, out, OPTIONS)
    return out


def test_vectors_stand_under_their_pictures_ids(catalog: Path, embedded: Path) -> None:
    store = EmbeddingStore(embedded)
    images = Catalog(catalog).table("images", ["image_id", "bytes"]).to_pylist()
    plain = Embedder.load(OPTIONS.model, OPTIONS.weights, OPTIONS.size).embed([row["bytes"] for row in images])
    assert sorted(store.ids) == sorted(row["image_id"] for row in images) and len(store) == 24
    assert np.abs(store.get([row["image_id"] for row in images]) - plain).max() < 1e-5
    assert verify(embedded) == [] and not list(embedded.glob(".*.json"))
    assert read_manifest(embedded).params["model"] == OPTIONS.model


def test_the_command_and_two_workers_give_the_same(
    catalog: Path, embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", catalog, "--model", OPTIONS.model, "--weights", "random:3", "--size", 64, "--dtype", "float32"]
    words += ["--shard", 7, "--batch", 3, "--workers", 2, "--out", tmp_path / "out"]
    # A process of its own: torch has threads here by now, and what is forked must not have.
    command = [sys.executable, "-m", "fashionkit", *map(str, words)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "24 vectors" in found.stdout and "0 pictures rejected" in found.stdout
    two, one = EmbeddingStore(tmp_path / "out"), EmbeddingStore(embedded)
    assert two.ids == one.ids
    assert read_manifest(tmp_path / "out").files == read_manifest(embedded).files, "the same bytes"
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    assert main([str(word) for word in words]) == 0, "a finished folder is left as it is"
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    assert main([str(word) for word in [*words[:4], "--weights", "random:4", *words[6:]]]) == 2
    assert "another catalogue, model or setting" in capsys.readouterr().err


def test_a_killed_run_goes_on(catalog: Path, embedded: Path, tmp_path: Path) -> None:
    words = ["embed", catalog, "--model", OPTIONS.model, "--weights", "random:3", "--size", 64, "--dtype", "float32"]
    words += ["--shard", 2, "--batch", 2, "--out", tmp_path / "out"]
    command = [sys.executable, "-m", "fashionkit", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while len(list((tmp_path / "out").glob("vectors/part-*"))) < 2 and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    early = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("vectors/part-*")}
    assert 0 < len(early) < 12, "it was killed in the middle"
    subprocess.run(command, check=True, capture_output=True)
    late = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("vectors/part-*")}
    assert len(late) == 12 and all(late[name] == at for name, at in early.items()), "what was made is not made again"
    found, whole = EmbeddingStore(tmp_path / "out"), EmbeddingStore(embedded)
    assert np.abs(found.get(whole.ids) - whole.to_numpy()).max() < 1e-5


def test_broken_pictures_are_rejected_with_their_reason(catalog: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(catalog, tmp_path / "broken"))
    part = sorted((broken / "images").glob("part-*"))[0]
    table = pq.read_table(part)
    data = table["bytes"].to_pylist()
    data[3] = data[3][: len(data[3]) // 2]
    write_table(part, table.set_column(table.column_names.index("bytes"), "bytes", pa.array(data, pa.binary())))
    manifest = embed_catalog(broken, tmp_path / "out", OPTIONS)
    assert (manifest.counts["vectors"], manifest.counts["rejects"]) == (23, 1)
    (reject,) = read_table(tmp_path / "out", "rejects").to_pylist()
    assert reject["id"] == table["image_id"][3].as_py() and reject["reason"]
    assert reject["id"] not in EmbeddingStore(tmp_path / "out")


def test_folders_that_are_in_the_way(catalog: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(InputError, match="there is something already"):
        embed_catalog(catalog, tmp_path / "mine", OPTIONS)
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / ".embed.json").write_text("{}")
    write_part(tmp_path / "plan", 0, ["a"], np.ones((1, 1)))
    with pytest.raises(InputError, match="an unfinished run with other settings"):
        embed_catalog(catalog, tmp_path / "plan", OPTIONS)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"there is something already|a part of this path is a file"):
            embed_catalog(catalog, out, OPTIONS)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="and it is a file"):
        embed_catalog(catalog, tmp_path / "file", OPTIONS)
    with pytest.raises(InputError, match="has no name"):
        embed_catalog(catalog, "", OPTIONS)


def test_a_mistake_in_the_first_command_does_not_block_the_folder(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs weights"):
        embed_catalog(catalog, tmp_path / "out", replace(OPTIONS, weights=None))
    with pytest.raises(InputError, match="there is no such folder"):
        embed_catalog(catalog, tmp_path / "out", replace(OPTIONS, model="models/nix"))
    with pytest.raises(InputError, match="no such backbone"):
        embed_catalog(catalog, tmp_path / "out", replace(OPTIONS, model="timm/no_such_net"))
    assert embed_catalog(catalog, tmp_path / "out", OPTIONS).counts["vectors"] == 24


def stopped(monkeypatch: pytest.MonkeyPatch, name: str, calls: int = 1) -> None:
    """Lets a function of the module end the run the so-manieth time it is called."""
    whole, left = getattr(module, name), [calls]

    def end(*arguments: object, **named: object) -> object:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(module, name, end)


@pytest.mark.parametrize(("name", "calls"), [("finish_vectors", 1), ("write_part", 1), ("write_part", 3)])
def test_stopped_anywhere_it_goes_on(
    catalog: Path, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, calls: int
) -> None:
    with monkeypatch.context() as patch:
        stopped(patch, name, calls)
        with pytest.raises(KeyboardInterrupt):
            embed_catalog(catalog, tmp_path / "out", OPTIONS)
    embed_catalog(catalog, tmp_path / "out", OPTIONS)
    assert read_manifest(tmp_path / "out").files == read_manifest(embedded).files, "the same bytes"


def test_parts_of_two_models_are_not_mixed(catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stopped(patch, "write_part", 3)
        with pytest.raises(KeyboardInterrupt):
            embed_catalog(catalog, tmp_path / "out", OPTIONS)
    load = Embedder.load
    monkeypatch.setattr(Embedder, "load", lambda model, weights, size, **more: load(model, "random:9", size, **more))
    with pytest.raises(InputError, match="made with other weights"):  # a tag that has moved
        embed_catalog(catalog, tmp_path / "out", OPTIONS)


def test_pictures_that_come_back_are_embedded(
    catalog: Path, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "encoded_pictures", lambda catalog, ids: dict.fromkeys(ids, "the disk is not there"))
        with pytest.raises(InputError, match="not one vector"):
            embed_catalog(catalog, tmp_path / "out", OPTIONS)
    embed_catalog(catalog, tmp_path / "out", OPTIONS)
    assert read_manifest(tmp_path / "out").files == read_manifest(embedded).files


def test_two_runs_at_once_and_too_small_shards_are_refused(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with module._alone(tmp_path / "out"):
        (tmp_path / "out" / module.PLAN).write_text("{}")
        with pytest.raises(InputError, match="another run writes to this folder"):
            embed_catalog(catalog, tmp_path / "out", OPTIONS)
    monkeypatch.setattr(module, "MAX_PARTS", 3)
    with pytest.raises(InputError, match=r"(?s)the shards are too small.*at least 8"):
        embed_catalog(catalog, tmp_path / "small", OPTIONS)


def test_a_folder_named_like_a_word_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "offline").mkdir()
    (tmp_path / "offline" / "model.pth").write_text("something")
    assert replace(OPTIONS, weights="offline").decides()["weights"] == "offline"
    assert replace(OPTIONS, weights="./offline").decides()["weights"] != "./offline"


@pytest.mark.parametrize("change", [{"dtype": "int8"}, {"shard": 0}, {"batch": 0}, {"workers": 0}])
def test_settings_out_of_range(catalog: Path, tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"dtype|at least 1"):
        embed_catalog(catalog, tmp_path / "out", replace(OPTIONS, **change))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_catalogue_of_tables_alone_is_named(tmp_path: Path) -> None:
    draw_catalog(tmp_path / "tables", DrawOptions(5, pictures=False))
    with pytest.raises(InputError, match="there is not one vector"):
        embed_catalog(tmp_path / "tables", tmp_path / "out", OPTIONS)
