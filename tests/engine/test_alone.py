"""One run at a time: the lock is held, let go of, and nothing is made where a folder is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashionkit.engine.alone import alone
from fashionkit.tables import InputError


def test_one_at_a_time_and_then_the_next(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with alone(out):
        with pytest.raises(InputError, match="another run writes to this folder"), alone(out):
            pass
        with alone(tmp_path / "b"):
            pass
    with alone(out):
        assert out.is_dir()


def test_the_lock_is_let_go_of_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), alone(tmp_path):
        raise RuntimeError
    with alone(tmp_path):
        pass


def test_nothing_is_made_where_the_folder_is_refused(tmp_path: Path) -> None:
    def refuse() -> None:
        raise InputError("not this one")

    with pytest.raises(InputError, match="not this one"), alone(tmp_path / "out", refuse):
        pass
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"it is a file|a part of this path is a file"), alone(path):
            pass
