"""The same bytes however a set is made: by any number of workers, killed at any moment, on a disk that runs full."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fashionkit.cli import main
from fashionkit.datagen.generate import generate
from fashionkit.datagen.spec import load_spec
from fashionkit.tables import InputError, verify
from tests.datagen.conftest import fingerprint, make_catalog, random_pictures

# Few templates keep it quick; budgets and several texts so that every step of a run is made.
SPEC = """\
shard_images: 6
phrasings: 2
per_image: 50
families: {B3: 0, B4: 0, B6: 0, C2: 0, C3: 0, C4: 0, C5: 0, C6: 0, C7: 0, C8: 0, G1: 0}
drop: [B2.modified, B2.kind_value, B5.not_modified, B5.not_kind_value, C1.modified]
"""
PACK = """\
schema: fashionkit.pack/1
templates:
  - id: C8.mine
    family: C8
    slots: {cat: {category: own}}
    program: count(filter(scene, cat))
    balance: tempered
    cell: [cat]
    text:
      - "how many {many cat}?"
      - "what is the number of {many cat}?"
      - "count the {many cat}."
      - {text: "tell the number of {many cat}.", held_out: true}
"""


class Runs:
    """Makes the same set again and again, in whatever bad way."""

    def __init__(self, folder: Path, catalog: Path):
        self.folder, self.catalog = folder, catalog
        (folder / "mine.yaml").write_text(SPEC)

    def words(self, out: Path, *more: object) -> list[str]:
        """The command line that makes the set in `out`."""
        fixed = ["datagen", "run", self.folder / "mine.yaml", "--catalog", self.catalog, "--out", out]
        return [str(word) for word in (*fixed, *more)]

    def make(self, out: Path, **settings: Any) -> dict[str, str]:
        """Makes or continues the set, and gives its fingerprint."""
        known = {"catalog": str(self.catalog), "out": str(out), "workers": 1}
        generate(load_spec(str(self.folder / "mine.yaml"), **{**known, **settings}))
        return fingerprint(out)

    def forked(self, out: Path, prepare: Callable[[], None], **settings: Any) -> int | None:
        """Makes the set in a process of its own after `prepare()`, and gives its exit code."""

        def work() -> None:
            prepare()
            os._exit(main(self.words(out, *(w for k, v in {"workers": 1, **settings}.items() for w in (f"--{k}", v)))))

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
        return process.exitcode


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Runs:
    folder = tmp_path_factory.mktemp("resume")
    pictures = random_pictures(folder / "catalog", 60, 8, one=False)
    return Runs(folder, make_catalog(folder / "catalog", pictures, closed_categories=["item"], countable=["item"]))


@pytest.fixture(scope="module")
def whole(runs: Runs, unsynced: None) -> dict[str, str]:
    """The fingerprint of a set that was made in one go, by one worker."""
    return runs.make(runs.folder / "whole")


def dies_at(call: int, before: bool) -> Callable[[], None]:
    """Kills the process at its nth finished file: before or after the file gets its name."""

    def prepare() -> None:
        left, real = [call], os.replace

        def replace(source: Any, target: Any) -> None:
            left[0] -= 1
            if left[0] <= 0 and before:
                Path(source).write_bytes(Path(source).read_bytes()[:-7])  # half a file on the disk
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace

    return prepare


def dies_at_file(name: str) -> Callable[[], None]:
    """Kills the process before the file of this name gets it."""

    def prepare() -> None:
        real = os.replace

        def replace(source: Any, target: Any) -> None:
            if Path(target).name == name:
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)

        os.replace = replace

    return prepare


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_gives_the_same_bytes(
    runs: Runs, whole: dict[str, str], tmp_path: Path, workers: int
) -> None:
    assert runs.make(tmp_path / "set", workers=workers) == whole
    assert len([name for name in whole if name.startswith("samples/")]) >= 10


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    runs: Runs, whole: dict[str, str], tmp_path: Path, seed: int
) -> None:
    """Each attempt is killed after some more files, half of them just before the last one gets its name."""
    rng, out = np.random.default_rng(seed), tmp_path / "set"
    kills = 0
    while (code := runs.forked(out, dies_at(int(rng.integers(1, 40)), bool(rng.random() < 0.5)))) != 0:
        assert code == -signal.SIGKILL
        assert not (out / "manifest.json").exists(), "no folder counts as finished before it is"
        kills += 1
        assert kills < 100, "every attempt goes on from where the last one stopped"
    assert kills >= 3
    assert fingerprint(out) == whole and verify(out) == []
    assert {p.name for p in out.iterdir()} == {n.split("/")[0] for n in whole}, "nothing is left behind"


def test_killed_by_the_clock_with_workers(runs: Runs, whole: dict[str, str], tmp_path: Path) -> None:
    rng, out = np.random.default_rng(7), tmp_path / "set"
    command = [sys.executable, "-c", "import sys; from fashionkit.cli import main; sys.exit(main())"]
    kills = 0
    while True:
        words = runs.words(out, "--workers", 2)
        with subprocess.Popen([*command, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            assert process.stderr is not None
            started = b"compiling" in process.stderr.readline()  # not where the last kill came just after the end
            if started and kills < 3:
                time.sleep(rng.uniform(0.05, 1.0))
                kills += process.poll() is None
                process.kill()
            said = process.stderr.read().decode()
        if process.returncode != -signal.SIGKILL:
            break
    assert process.returncode == 0, said
    assert kills >= 1
    assert fingerprint(out) == whole


def test_what_is_done_is_not_done_again(runs: Runs, whole: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert runs.forked(out, dies_at_file("done-00003.json")) == -signal.SIGKILL
    done = sorted(p.name for p in out.rglob("done-*.json"))
    assert done == [f"done-{n:05d}.json" for n in range(3)]
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet") if p.name < "part-00003"}
    assert len([p for p in before if "samples" in str(p)]) >= 3
    counted = {p: n for p, n in before.items() if ".work" in str(p)}
    assert counted
    assert runs.make(out) == whole
    assert all(p.stat().st_mtime_ns == n for p, n in before.items() if p not in counted)


def test_a_finished_set_is_left_alone(runs: Runs, whole: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    out = runs.folder / "whole"
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in out.rglob("*")}
    assert main(runs.words(out, "--workers", 3)) == 0
    assert "already complete" in capsys.readouterr().out
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in out.rglob("*")} == before


def test_stale_temporary_files_are_swept(runs: Runs, whole: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert runs.forked(out, dies_at(40, True)) == -signal.SIGKILL
    assert list(out.rglob(".*.tmp")), "the kill left a half-written file"
    (out / "samples" / "train").mkdir(parents=True, exist_ok=True)
    (out / "samples" / "train" / ".part-00000.parquet.4242.tmp").write_bytes(b"PAR1 half")
    assert runs.make(out) == whole
    assert not list(out.rglob("*.tmp")) and not (out / ".work").exists()


@pytest.mark.parametrize("last", ["done-00002.json", "manifest.json"])
def test_half_a_set_of_other_settings_is_no_part_of_this_one(
    runs: Runs, whole: dict[str, str], tmp_path: Path, last: str
) -> None:
    """Smaller shards and another pack lie there already, under names that this set does not use."""
    out, other = tmp_path / "set", Runs(tmp_path, runs.catalog)
    (tmp_path / "more.yaml").write_text(PACK)
    spec = SPEC.replace("shard_images: 6", f"shard_images: 4\npacks: [core, {tmp_path / 'more.yaml'}]")
    (tmp_path / "mine.yaml").write_text(spec)
    assert other.forked(out, dies_at_file(last)) == -signal.SIGKILL
    assert (out / "packs" / "01-more.yaml").exists() == (last == "manifest.json")
    assert runs.make(out) == whole


def test_killed_at_the_very_end_it_is_finished_soon(runs: Runs, whole: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert runs.forked(out, dies_at_file("manifest.json")) == -signal.SIGKILL
    with pytest.raises(InputError, match=r"no manifest.json"):
        verify(out)
    assert runs.make(out) == whole


def test_folders_of_the_same_names_that_are_not_ours_are_refused(runs: Runs, tmp_path: Path) -> None:
    """A person's own pictures may well lie in a folder `images`."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "me.jpg").write_bytes(b"my picture")
    with pytest.raises(InputError, match="not made by this command"):
        runs.make(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["images", "me.jpg"]


# A full disk.


@pytest.mark.parametrize("call", [3, 50])
def test_a_full_disk_is_told_and_the_same_command_continues(
    runs: Runs,
    whole: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    call: int,
) -> None:
    out, left, real = tmp_path / "set", [call], pq.write_table

    def write_table(table: Any, where: Any, **options: Any) -> None:
        left[0] -= 1
        if left[0] <= 0:
            Path(where).write_bytes(b"PAR1")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(table, where, **options)

    monkeypatch.setattr(pq, "write_table", write_table)
    assert main(runs.words(out, "--workers", 1)) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said and str(out) in said and "Traceback" not in said
    assert not (out / "manifest.json").exists() and not list(out.rglob("*.tmp"))
    monkeypatch.setattr(pq, "write_table", real)
    assert runs.make(out) == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_a_limit_on_files_is_told_and_the_same_command_continues(
    runs: Runs, whole: dict[str, str], tmp_path: Path, workers: int
) -> None:
    out, log = tmp_path / "set", tmp_path / "log"

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        handle = os.open(log, os.O_CREAT | os.O_WRONLY)
        os.dup2(handle, 2)
        sys.stderr = os.fdopen(handle, "w", buffering=1)

    assert runs.forked(out, limited, workers=workers) == 1
    said = log.read_text()
    assert "File too large" in said and "Traceback" not in said, said
    assert not (out / "manifest.json").exists()
    assert runs.make(out) == whole


def test_a_lost_worker_is_told_and_the_same_command_continues(
    runs: Runs, whole: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As when the system kills one for want of memory; here, by the hand of the file it was about to write."""
    out, parent = tmp_path / "set", os.getpid()
    with pytest.MonkeyPatch.context() as patch:
        real = os.replace

        def replace(source: Any, target: Any) -> None:
            if os.getpid() != parent and Path(target).name == "part-00002.parquet":
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)

        patch.setattr(os, "replace", replace)
        assert main(runs.words(out, "--workers", 2)) == 1
    said = capfd.readouterr().err
    assert "SIGKILL" in said and "continues" in said and "Traceback" not in said
    assert runs.make(out) == whole


@pytest.mark.parametrize("which", [0, -1])
def test_a_damaged_work_file_is_told_with_its_name(
    runs: Runs, whole: dict[str, str], tmp_path: Path, which: int
) -> None:
    """Work files are not flushed to the disk one by one, so a power cut may leave an empty one."""
    out = tmp_path / "set"
    assert runs.forked(out, dies_at_file("done-00001.json")) == -signal.SIGKILL
    kinds = sorted({path.name.split("-")[0] for path in (out / ".work").rglob("*.parquet")})
    damaged = sorted((out / ".work").rglob(f"{kinds[which]}-*.parquet"))[0]
    damaged.write_bytes(b"")
    try:
        again = runs.make(out)
    except ValueError as error:
        assert damaged.name in str(error)
        shutil.rmtree(out)
        again = runs.make(out)
    assert again == whole


def test_the_identity_is_what_decides_the_content(runs: Runs, whole: dict[str, str], tmp_path: Path) -> None:
    moved = shutil.copytree(runs.catalog, tmp_path / "moved")
    manifest = json.loads((moved / "manifest.json").read_text())
    manifest["provenance"] = {"time": "another day"}
    (moved / "manifest.json").write_text(json.dumps(manifest))
    assert runs.make(tmp_path / "set", catalog=str(moved)) == whole
