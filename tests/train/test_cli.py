"""`fashionkit train`: its words, its folders, its errors, and what its checkpoints hold."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from fashionkit.cli import main
from fashionkit.recipes import names
from fashionkit.tables import InputError
from fashionkit.train.callbacks import SPEED, MetricsTable, read_metrics
from fashionkit.train.checkpoints import read_checkpoint
from fashionkit.train.cli import run
from fashionkit.train.style import StyleTask
from tests.train.running import checkpoint, fit, table

Tiny = Callable[..., Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> tuple[Path, Path]:
    """A recipe and the folder of its finished run."""
    from tests.train.conftest import PLAIN, TINY

    folder = tmp_path_factory.mktemp("finished")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY.format(catalog=drawn, network=PLAIN))
    assert fit(recipe, folder / "run") == 0
    return recipe, folder / "run"


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["train", "--help"], ["train", "fit", "--help"]):
        assert main(words) == 0
        text = capsys.readouterr().out
        assert text.startswith("usage: fashionkit train")
        assert all(f"\n  {name} " in text for name in names("train"))
        assert "goes on where its last checkpoint stands" in text and "\nexample:\n" in text
        assert "--help-all" in text and "--print_config" in text
        assert max(map(len, text.splitlines())) < 160
    assert main(["train"]) == 2


def test_help_does_not_wait_for_torch(root: Path) -> None:
    script = "import sys; from fashionkit.cli import main; main(['train', 'fit', '--help']); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert not {"torch", "lightning", "timm"} & set(found.stdout.splitlines()[-1].split())


def test_every_setting_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "--help-all"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("--run.ema", "--trainer.max_epochs", "--out"))
    assert "--ckpt_path" not in text, "the folder says where a run goes on"


def test_the_settings_of_a_recipe_can_be_listed(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "--config", str(tiny()), "--print_config"]) == 0
    text = capsys.readouterr().out
    assert "lr: 0.01" in text and "weight_decay: 0.05" in text and "save_every: 100" in text
    assert run(["fit", "--model.help", "fashionkit.train.style.StyleTask"]) == 0
    assert "squash" in capsys.readouterr().out


def test_a_run_leaves_one_folder(finished: tuple[Path, Path]) -> None:
    _, out = finished
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == ["checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "metrics.csv", "result.json"]
    assert set(json.loads((out / "result.json").read_text())) == {"monitor", "best", "best_epoch", "epochs", "steps"}


def test_the_table_of_measures(finished: tuple[Path, Path]) -> None:
    rows = read_metrics(finished[1] / "metrics.csv")
    steps = [row["step"] for row in rows if "train/loss" in row]
    assert steps == list(range(len(steps))) and len(steps) > 4
    assert sum("val/macro_f1" in row for row in rows) == 2
    assert {row["epoch"] for row in rows if "epoch" in row} == {1, 2}, "as people count, and as result.json does"
    name = SPEED.format("pictures")
    speeds = [row[name] for row in rows if name in row]
    assert max(speeds) > 0


def test_it_is_quiet(tiny: Tiny, tmp_path: Path, root: Path) -> None:
    """A whole run as users start it: a line an epoch on standard output, and nothing on standard error."""
    command = [sys.executable, "-W", "default", "-m", "fashionkit", "train", "fit", "--config", str(tiny())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    noise = [line for line in done.stderr.splitlines() if "site-packages/albumentations" not in line]
    assert [line for line in noise if "ightning" in line or "💡" in line or "FLOP" in line] == []
    lines = done.stdout.splitlines()
    assert len(lines) == 5 and "begins" in lines[0] and "epoch 2/2" in lines[3] and "finished" in lines[4]
    assert lines[1] == "warning: 6 pictures for validation are few: its measures say little"


def test_a_line_has_measures_of_its_own_epoch_and_the_last_epoch_is_judged(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--trainer.max_epochs", "5", "--trainer.check_val_every_n_epoch", "2"]
    assert fit(tiny(), tmp_path / "run", *words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert ["(best" in line for line in lines] == [False, True, False, True, True]


def test_lines_stand_above_a_bar(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--trainer.enable_progress_bar", "true", "--trainer.max_epochs", "1"]
    assert fit(tiny(), tmp_path / "run", *words) == 0
    out, err = capsys.readouterr()
    assert "epoch 1/1, step" in out + err and "100%" in out + err


def test_a_finished_run_says_so(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = finished
    before = (out / "metrics.csv").read_bytes()
    assert fit(recipe, out) == 0
    assert "finished before; best val/macro_f1" in capsys.readouterr().out
    assert (out / "metrics.csv").read_bytes() == before


def test_another_configuration_is_refused_by_name(finished: tuple[Path, Path]) -> None:
    recipe, out = finished
    with pytest.raises(InputError, match=r"model\.init_args\.lr: 0\.01 there, 0\.02 now(.|\n)*--overwrite begins anew"):
        fit(recipe, out, "--model.lr", "0.02")
    with pytest.raises(InputError, match=r"seed_everything: 0 there, 1 now"):
        fit(recipe, out, "--seed_everything", "1")
    assert fit(recipe, out, "--data.workers", "1", "--run.save_every", "7") == 0, "this changes no result"


def test_a_finished_run_cannot_be_made_longer_but_started_from(finished: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, out = finished
    with pytest.raises(InputError, match=rf"max_epochs: 2 there, 3 now(.|\n)*--model.weights {out}` with another"):
        fit(recipe, out, "--trainer.max_epochs", "3")
    assert fit(recipe, tmp_path / "longer", "--trainer.max_epochs", "1", "--model.weights", str(out)) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        ["--data.catalog", "/nowhere/at/all"],
        ["--data.label", "stile"],
        ["--model.backbone_lr", "fast"],
        ["--model.backbone", "timm/test_efficientnot"],
        ["--run.save_every", "0"],
        ["--run.monitor", "val/f1"],
        ["--run.ema", "2"],
    ],
)
def test_a_refused_command_can_be_corrected(wrong: list[str], tiny: Tiny, tmp_path: Path) -> None:
    out, short = tmp_path / "run", ["--trainer.max_epochs", "1"]
    with pytest.raises(InputError):
        fit(tiny(), out, *short, *wrong)
    if "val/f1" not in wrong:
        assert not out.exists(), "it was refused before anything was written"
    assert fit(tiny(), out, *short) == 0
    assert "val/f1" not in (out / "config.yaml").read_text()


def test_what_a_refused_command_overwrites_is_still_there(tiny: Tiny, tmp_path: Path) -> None:
    out, short = tmp_path / "run", ["--trainer.max_epochs", "1"]
    assert fit(tiny(), out, *short) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="no such label"):
        fit(tiny(), out, *short, "--data.label", "stile", "--overwrite")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_overwriting_begins_anew(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert fit(tiny(), out, "--trainer.max_epochs", "1") == 0
    (out / "notes.txt").write_text("mine")
    assert fit(tiny(), out, "--trainer.max_epochs", "1", "--model.lr", "0.02", "--overwrite") == 0
    assert "lr: 0.02" in (out / "config.yaml").read_text()
    assert len([row for row in table(out) if row["val/loss"]]) == 1
    assert (out / "notes.txt").read_text() == "mine"


def test_a_folder_of_something_else_is_left_alone(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("once")
    with pytest.raises(InputError, match="holds something else"):
        fit(tiny(), tmp_path / "thesis", "--overwrite")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_a_trial_leaves_nothing(tiny: Tiny, tmp_path: Path) -> None:
    assert fit(tiny(), tmp_path / "run", "--trainer.fast_dev_run", "true") == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("    batch: 4", "    batsch: 4"), "tiny.yaml, row 7: StyleData has no such setting\n  found: batsch\n  nearest allowed: 'batch'"),  # noqa: E501
        (("    batch: 4", "    batch: many"), "tiny.yaml, row 7: batch: a whole number is needed\n  found: many"),
        (("style.StyleTask", "style.StileTask"), "tiny.yaml, row 9: no such class\n  found: fashionkit.train.style.StileTask"),  # noqa: E501
        (("train.style.", "trein.style."), "tiny.yaml, row 9: no such module"),
        (("  max_epochs: 2", "  max_epoch: 2"), "tiny.yaml, row 17: no such setting\n  found: trainer.max_epoch"),
        (("run:\n", "runn:\n"), "tiny.yaml, row 21: no such setting\n  found: runn.ema"),
        (("  ema: 0.9", "  emma: 0.9"), "tiny.yaml, row 21: no such setting"),
        (("  ema: 0.9", "  ema: high"), "tiny.yaml, row 21: run.ema: a number is needed\n  found: high"),
        (("    backbone: timm/test_efficientnet\n", ""), "still needed of StyleTask: backbone"),
        (("trainer:\n", "trainer: [\n"), "tiny.yaml"),
        (("run:\n", "trainer:\n"), "tiny.yaml, row 20: key 'trainer' stands here and in line 16"),
        (("test_efficientnet", "test_efficientnot"), "no such backbone"),
        (("augment: street", "augment: streat"), "nearest allowed: 'street'"),
        (("width: 16", "widht: 16"), "setting 'network': no such switch of the network"),
    ],
)  # fmt: skip
def test_mistakes_in_a_recipe_are_named(
    change: tuple[str, str], problem: str, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "fit", "--config", str(tiny(change)), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert problem in err and "Traceback" not in err and "Union" not in err and "column" not in err
    assert len(err.splitlines()) <= 6


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("fit", "still needed: data, model"),
        ("fit --config irsm_small", "nearest allowed: 'irsn_small'"),
        ("fit --config nowhere/x.yaml", "no such file"),
        ("fitt --config {recipe}", "nearest allowed: 'fit'"),
        ("fit --config {recipe} --foo 1", "no such setting\n  found: foo"),
        ("fit --config {recipe} --data.foo 1", "StyleData has no such setting\n  found: foo"),
        ("fit --config {recipe} --data.batch few", "fashionkit: --data.batch: a whole number is needed\n  found: few"),
        ("fit --config {recipe} --data.batch=few", "fashionkit: --data.batch: a whole number is needed\n  found: few"),
        ("fit --config {recipe} --model.init_args.lr abc", "fashionkit: --model.init_args.lr: a number is needed"),
        ("fit --config irsn_small --model.lr abc", "fashionkit: --model.lr: a number is needed\n  found: abc"),
        ("fit --config irsn_small --model.network 3", "fashionkit: --model.network: a mapping, such as"),
        ("fit --config {recipe} --run.ema high", "fashionkit: --run.ema: a number is needed\n  found: high"),
        ("fit --config {recipe} --data.limit 0 --out {out}", "setting 'limit': a number of at least 1"),
        ("fit --config {recipe} --data.label nolabel --out {out}", "no such label in the catalogue\n  found: nolabel"),
        ("fit --config {recipe} --data.catalog /nowhere", "/nowhere: no such folder"),
        ("fit --config {recipe} --run.monitor val/f1 --out {out}", "validation gives no such measure"),
        ("fit --config {recipe} --run.save_every 0 --out {out}", "at least 1 step"),
        ("fit --config {recipe} --run.ema 2 --out {out}", "a decay lies"),
        ("fit --config {recipe} --model.weights {out}/x.ckpt --out {out}", "no such checkpoint"),
        ("test --out {out}", "no run in this folder"),
        ("test --config {recipe} --out {out}", "no such checkpoint"),
        ("validate", "still needed: data, model"),
    ],
)
def test_mistakes_in_words_are_named(
    words: str, problem: str, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    given = words.format(recipe=tiny(), out=tmp_path / "run").split()
    assert main(["train", *given]) == 2
    err = capsys.readouterr().err
    assert problem in err and "Traceback" not in err and "Union" not in err and "column" not in err


def test_a_run_is_judged_and_used(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Without its recipe: the folder knows."""
    _, out = finished
    for verb in ("validate", "test"):
        assert run([verb, "--out", str(out)]) == 0
    found = json.loads((out / "validate.json").read_text())
    assert found["checkpoint"] == "best.ckpt"
    assert found["val/macro_f1"] == pytest.approx(json.loads((out / "result.json").read_text())["best"])
    assert "test/accuracy" in capsys.readouterr().out
    assert run(["predict", "--out", str(out)]) == 0
    said = pq.read_table(out / "predictions_test.parquet")
    classes = json.loads(said.schema.metadata[b"classes"])
    rows = said.to_pylist()
    assert [classes[row["probability"].index(max(row["probability"]))] for row in rows] == [r["class"] for r in rows]
    assert len({row["image_id"] for row in rows}) == len(rows) and all(
        abs(sum(r["probability"]) - 1) < 1e-5 for r in rows
    )


def plain(value: Any) -> bool:
    """Whether it is built of tensors and plain values alone."""
    if isinstance(value, dict):
        return type(value).__name__ in ("dict", "OrderedDict") and all(plain(k) and plain(v) for k, v in value.items())
    if isinstance(value, list | tuple | set):
        return all(plain(part) for part in value)
    return value is None or type(value) in (str, int, float, bool, torch.Tensor)


def test_checkpoints_hold_tensors_and_plain_values(finished: tuple[Path, Path]) -> None:
    for name in ("last", "best"):
        found = checkpoint(finished[1], name)
        assert [key for key, value in found.items() if not plain(value)] == []
        options = found["hyper_parameters"]
        assert options["backbone"] == "timm/test_efficientnet" and "_class_path" not in options
        assert found["preprocess"]["size"] == 32


class Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("touch /tmp/this-must-never-be-there",))


@pytest.mark.parametrize("content", [Evil(), {"state_dict": Evil(), "preprocess": {}}, b"no pickle", {"a": 1}])
def test_a_checkpoint_with_code_is_refused(
    content: Any, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it is to be resumed, judged, or gone on from."""
    file = tmp_path / "evil.ckpt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, Evil):
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    for load in (read_checkpoint, StyleTask.load):
        with pytest.raises(InputError, match=r"cannot read the checkpoint|no checkpoint of"):
            load(file)
    recipe = str(tiny())
    assert main(["train", "test", "--config", recipe, "--ckpt_path", str(file)]) == 2
    assert main(["train", "fit", "--config", recipe, "--out", str(tmp_path / "r"), "--model.weights", str(file)]) == 2
    assert capsys.readouterr().err.count("checkpoint") >= 2
    assert not Path("/tmp/this-must-never-be-there").exists()


def test_a_poisoned_folder_is_not_resumed(tiny: Tiny, tmp_path: Path) -> None:
    assert fit(tiny(), tmp_path / "run", "--trainer.max_epochs", "1") == 0
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="holds code, which is never run"):
        fit(tiny(), tmp_path / "run", "--trainer.max_epochs", "1")


def test_half_precision(tiny: Tiny, tmp_path: Path) -> None:
    words = ["--trainer.precision", "bf16-mixed", "--trainer.max_epochs", "1", "--data.regions", "catalog"]
    network = "{use_general: false, width: 16, heads: 2}"
    assert fit(tiny(network=network), tmp_path / "run", *words) == 0
    state = checkpoint(tmp_path / "run")["state_dict"]
    assert {value.dtype for value in state.values()} <= {torch.float32, torch.int64}
    assert all(row["train/loss"] != "nan" for row in table(tmp_path / "run"))


def test_the_best_weights_are_kept_and_training_stops_early(tiny: Tiny, tmp_path: Path) -> None:
    words = ["--run.monitor", "val/loss", "--run.patience", "2", "--trainer.max_epochs", "12", "--model.lr", "0.05"]
    assert fit(tiny(), tmp_path / "run", *words) == 0
    losses = [float(row["val/loss"]) for row in table(tmp_path / "run") if row["val/loss"]]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    best = losses.index(min(losses))
    assert result["best"] == pytest.approx(min(losses)) and result["best_epoch"] == best + 1
    epochs = [row["epoch"] for row in table(tmp_path / "run") if row["val/loss"]]
    assert epochs == [str(number) for number in range(1, len(losses) + 1)]
    assert len(losses) in (best + 3, 12) and len(losses) == result["epochs"]
    assert checkpoint(tmp_path / "run", "best")["epoch"] == best


def test_tensorboard_is_an_extra(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning.pytorch.loggers as loggers

    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr(loggers, "TensorBoardLogger", missing)
    with pytest.raises(InputError, match=r"fashionkit\[tensorboard\]"):
        fit(tiny(), tmp_path / "run", "--run.tensorboard", "true")


def test_a_table_that_goes_on(tmp_path: Path) -> None:
    first = MetricsTable(tmp_path)
    for step in range(4):
        first.log_metrics({"train/loss": step / 2}, step)
        first.log_metrics({"train/loss": step / 2}, step)
    first.log_metrics({"val/loss": 9.0, "epoch": 0}, 1)
    first.finalize("success")
    second = MetricsTable(tmp_path)
    second.keep_before(2)
    second.log_metrics({"train/loss": 7.0}, 2)
    second.flush()
    assert [(r["step"], r["train/loss"]) for r in read_metrics(tmp_path / "metrics.csv") if "train/loss" in r] == [
        (0, 0.0), (1, 0.5), (2, 7.0)
    ]  # fmt: skip
    assert MetricsTable(tmp_path)._rows == second._rows and second._rows[2]["epoch"] == 1
