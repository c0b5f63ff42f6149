"""The question-answer comparison, whole, on made-up outfits: four arms, two seeds, interruptions, moves, the table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from fashionkit.cli import main
from fashionkit.engine import threads
from fashionkit.eval.protocols import run_recipe, table_of
from fashionkit.eval.runs import Run, RunFolder
from fashionkit.eval.vqa import VqaSpec
from fashionkit.eval.vqa_table import vqa_rows
from fashionkit.tables import InputError, read_table
from fashionkit.tables.typed import build
from fashionkit.tables.yamls import Lines
from fashionkit.train.caching import cache_catalog
from fashionkit.vision.backbones import build_backbone
from tests.train.running import stopping

ARCH, SIDE = "timm/test_vit", 32  # maps of 2 x 2 cells
RECIPE = """# A tiny comparison.
protocol: vqa
backbone: {name: timm/test_vit, size: 32}
training: {steps: 12, images: 8, per_image: 6, lr: 0.02, words: 300, val_questions: 40, every: 3}
network: {width: 16, layers: 1, heads: 2, feed: 32, embedding: 12, answer_length: 24}
judged: {test: 120, "entailed:test": 30}
seeds: [0, 1]
blind: blind
human: HUMAN
arms:
- {name: vlm, kind: vlm, equal: true, against: mcan 1.5, network: {feed: 224}}
- {name: mcan 1.5, kind: mcan, equal: true, against: mcan 1.5}
- {name: blind, kind: vlm, network: {blind: true}}
- {name: truth, kind: vlm, truth: true, against: vlm}
"""
ONE = [  # of these only the first arm, and its second seed
    ("seeds: [0, 1]", "seeds: [1]"),
    ("blind: blind\n", ""),
    ("against: mcan 1.5, ", ""),
    *((f"{line}\n", "") for line in RECIPE.splitlines()[-3:]),
]
KEYS = ["blind-s0", "blind-s1", "mcan-1.5-s0", "mcan-1.5-s1", "truth-s0", "truth-s1", "vlm-s0", "vlm-s1"]


class Inputs:
    """What comparisons are made of, and where it lies."""

    def __init__(self, folder: Path, outfits: Path, questions: Path):
        self.folder, self.places = folder, {"catalog": str(outfits), "questions": str(questions)}
        self.human = folder / "human.csv"
        self.human.write_text("question_id,image_id,question,answer,kind\nh1,p0000,is it red?,yes|no,yes/no\n")
        self.places |= {"features": str(folder / "maps"), "weights": "random:1"}
        cache_catalog(outfits, folder / "maps", build_backbone(ARCH, "random:1", SIDE), colour=False)

    def recipe(self, *changes: tuple[str, str], name: str = "recipe") -> str:
        """A recipe with texts in it replaced."""
        text = RECIPE
        for old, new in changes:
            assert old in text, f"{old!r} is not in the recipe"
            text = text.replace(old, new)
        path = self.folder / f"{name}.yaml"
        path.write_text(text.replace("HUMAN", str(self.human)), encoding="utf-8")
        return str(path)

    def moved(self, to: Path) -> dict[str, str]:
        """Places of a copy of all folders."""
        for name in ("catalog", "questions", "features"):
            shutil.copytree(self.places[name], to / name)
        return {**self.places, **{name: str(to / name) for name in ("catalog", "questions", "features")}}


@pytest.fixture(scope="module")
def inputs(outfits: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    with threads.one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        return Inputs(tmp_path_factory.mktemp("compared"), outfits, questions)


@pytest.fixture(scope="module")
def series(inputs: Inputs) -> Path:
    """Folder of all runs."""
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        assert run_recipe(inputs.recipe(), inputs.folder / "out", 1, said.append, **inputs.places) == 8
    assert said[0] == "8 runs, 8 to do" and len(said) == 9 and said[1].startswith("vlm, seed 0: ")
    return inputs.folder / "out"


@pytest.fixture
def copied(series: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(series, tmp_path / "out")
    return tmp_path / "out"


def times(folder: Path, pattern: str) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob(pattern)}


def spec_of(folder: Path) -> tuple[VqaSpec, list[Run]]:
    runs, data = RunFolder.open(folder)
    body = {key: value for key, value in data.items() if key not in ("protocol", "inputs")}
    return build(VqaSpec, body, folder, Lines()), runs.runs()


def accuracy(series: Path, *keys: str) -> float:
    """Mean over seeds, from the answers."""
    shares = []
    for key in keys:
        right = read_table(series / "answers" / key / "test", "answers", ["right"])["right"].to_pylist()
        shares.append(sum(right) / len(right))
    return sum(shares) / len(shares)


def test_every_arm_and_seed_has_a_run(series: Path) -> None:
    runs = RunFolder.open(series)[0].runs()
    assert sorted(path.stem for path in (series / "runs").glob("*.json")) == KEYS
    assert sorted(path.name for path in (series / "trained").glob("*.yaml")) == [f"{key}.yaml" for key in KEYS]
    for key, run in zip(KEYS, runs, strict=True):
        assert run.settings == {"arm": {"mcan-1.5": "mcan 1.5"}.get(key[:-3], key[:-3]), "seed": int(key[-1])}
        assert run.figures["n"] == 120 == len(run.predictions) and run.folder == series
        assert run.figures["accuracy"] == pytest.approx(accuracy(series, key))
        truth, said = (run.predictions[name].to_numpy() for name in ("truth", "predicted"))
        assert (truth == said).mean() == pytest.approx(run.figures["accuracy"]), "each answer of a set has one id"
        assert sorted(path.name for path in (series / "answers" / key).iterdir()) == ["entailed-test", "human", "test"]
        assert "step 12" in (series / "trained" / f"{key}.log").read_text()
        state = torch.load(series / "trained" / key / "checkpoints" / "last.ckpt", weights_only=True)
        assert state["global_step"] == 12
    size = {run.settings["arm"]: run.figures["parameters"] for run in runs}
    assert (
        max(size["vlm"], size["mcan 1.5"]) < 1.05 * min(size["vlm"], size["mcan 1.5"]) and size["blind"] < size["vlm"]
    )


def test_arms_differ_in_what_they_are_shown(series: Path, inputs: Inputs) -> None:
    recipe = {key: yaml.safe_load((series / "trained" / f"{key}.yaml").read_text()) for key in KEYS}
    for key in KEYS:
        data, model = (recipe[key][part]["init_args"] for part in ("data", "model"))
        truth = key.startswith("truth")
        assert data.get("truth", False) is truth and (data.get("features") == inputs.places["features"]) is not truth
        assert (data["empties"] == 0) is truth and ("backbone" in model) is not truth
        assert bool(model["network"].get("blind")) is key.startswith("blind")
        assert recipe[key]["seed_everything"] == int(key[-1])
    one, two = (read_table(series / "answers" / f"vlm-s{seed}" / "test", "answers") for seed in (0, 1))
    assert one["qid"].equals(two["qid"]) and not one["probability"].equals(two["probability"])


def test_the_table(series: Path) -> None:
    text, rows = table_of(series, 50)
    assert [row["arm"] for row in rows] == ["vlm", "mcan 1.5", "blind", "truth"]
    assert {row["seeds"] for row in rows} == {2} and {row["n"] for row in rows} == {120}
    head, _, *lines = [line for line in text.splitlines() if line.startswith("|")][:6]
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "arm", "M parameters", "MFLOP a question", "seeds", "test", "consistency on test", "people's questions",
        "not-present F1", "gain by looking", "difference on test",
    ]  # fmt: skip
    assert [line.split("|")[1].strip() for line in lines] == [row["arm"] for row in rows]
    assert "to mcan 1.5 |" in lines[0] and "to vlm |" in lines[3] and "12 steps of 48 questions" in text
    assert all(set(row["families"]) == set(rows[0]["families"]) for row in rows) and len(rows[0]["families"]) > 4
    assert all(name in text for name in rows[0]["families"])
    for row in rows:
        for name in ("test", "entailed:test", "human", "not_present"):
            value, low, high = row[name]
            assert low - 1e-9 <= value <= high + 1e-9 and 0 <= value <= 1


def test_differences_are_those_of_accuracies(series: Path) -> None:
    rows = {row["arm"]: row for row in table_of(series, 50)[1]}
    share = {arm: accuracy(series, *(f"{arm.replace(' ', '-')}-s{seed}" for seed in (0, 1))) for arm in rows}
    assert {arm: row["test"][0] for arm, row in rows.items()} == pytest.approx(share)
    assert len(set(share.values())) > 1, "a comparison of equals would show nothing"
    for arm, other in (("vlm", "mcan 1.5"), ("truth", "vlm")):
        assert rows[arm]["difference"][0] == pytest.approx(share[arm] - share[other])
    for arm in ("vlm", "mcan 1.5", "truth"):
        assert rows[arm]["gain"][0] == pytest.approx(share[arm] - share["blind"])
    assert "gain" not in rows["blind"] and "difference" not in rows["mcan 1.5"], "an arm is not compared with itself"


def test_differences_are_of_the_seeds_that_both_have(series: Path) -> None:
    spec, runs = spec_of(series)
    left = [run for run in runs if (run.settings["arm"], run.settings["seed"]) not in (("vlm", 1), ("blind", 0))]
    rows = {row["arm"]: row for row in vqa_rows(spec, left, 50)}
    assert [rows[arm]["seeds"] for arm in ("vlm", "mcan 1.5", "blind", "truth")] == [1, 2, 1, 2]
    for arm, other in (("vlm", "mcan-1.5"), ("truth", "vlm")):
        assert rows[arm]["difference"][0] == pytest.approx(
            accuracy(series, f"{arm}-s0") - accuracy(series, f"{other}-s0")
        )
    assert rows["truth"]["gain"][0] == pytest.approx(accuracy(series, "truth-s1") - accuracy(series, "blind-s1"))
    assert "gain" not in rows["vlm"], "no seed of both is there"
    alone = vqa_rows(spec, [run for run in runs if run.settings["arm"] == "vlm"], 50)
    assert [row["arm"] for row in alone] == ["vlm"] and "difference" not in alone[0] and "gain" not in alone[0]


def test_only_what_is_missing_is_made(copied: Path, inputs: Inputs) -> None:
    """The process was killed after training and before the last answers."""
    wanted = (copied / "runs" / "vlm-s1.parquet").read_bytes()
    (copied / "runs" / "vlm-s1.json").unlink()
    shutil.rmtree(copied / "answers" / "vlm-s1" / "entailed-test")
    stale = copied / "trained" / "vlm-s1" / "checkpoints" / ".last.ckpt.1.tmp"
    stale.write_bytes(b"half")
    assert len(table_of(copied, 20)[1]) == 4 and stale.exists(), "somebody else may be writing"
    before = {pattern: times(copied, pattern) for pattern in ("*.json", "*.ckpt", "*.parquet")}
    said: list[str] = []
    assert run_recipe(inputs.recipe(), copied, 1, said.append, **inputs.places) == 8
    assert said[0] == "8 runs, 1 to do" and len(said) == 2 and said[1].startswith("vlm, seed 1: ")
    assert not stale.exists()
    after = {pattern: times(copied, pattern) for pattern in before}
    assert after["*.ckpt"] == before["*.ckpt"], "nothing was trained again"
    again = {name for pattern in before for name, time in before[pattern].items() if after[pattern][name] != time}
    assert again == {"runs/vlm-s1.parquet"}
    assert (copied / "runs" / "vlm-s1.parquet").read_bytes() == wanted


def test_a_training_that_was_killed_goes_on_wherever_its_inputs_lie(
    series: Path, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as the one that nobody stopped, although its folders were moved in between."""
    recipe, out = inputs.recipe(*ONE, name="one"), tmp_path / "out"
    with stopping(8, monkeypatch):
        run_recipe(recipe, out, **inputs.places)
    assert not (out / "runs").exists()
    kept = out / "trained" / "vlm-s1" / "checkpoints" / "last.ckpt"
    assert 0 < torch.load(kept, weights_only=True)["global_step"] < 8
    moved = inputs.moved(tmp_path / "moved")
    assert run_recipe(recipe, out, **moved) == 1
    assert "goes on from its last checkpoint" in (out / "trained" / "vlm-s1.log").read_text()
    assert json.loads((out / "spec.json").read_text())["features"] == moved["features"]
    one, two = (folder / "trained" / "vlm-s1" / "checkpoints" / "last.ckpt" for folder in (series, out))
    states = [torch.load(file, weights_only=True)["state_dict"] for file in (one, two)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    name = "runs/vlm-s1.parquet"
    assert (out / name).read_bytes() == (series / name).read_bytes()


def test_features_and_weights_count_by_their_content(
    copied: Path, inputs: Inputs, tmp_path: Path, outfits: Path
) -> None:
    """A copy elsewhere is as good; others are refused, also where their maps have the same sizes."""
    (copied / "runs" / "truth-s0.json").unlink()
    (copied / "runs" / "vlm-s1.json").unlink()
    before = times(copied, "*.ckpt")
    said: list[str] = []
    moved = inputs.moved(tmp_path / "moved")
    assert run_recipe(inputs.recipe(), copied, 1, said.append, **moved) == 8
    assert said[0] == "8 runs, 2 to do" and times(copied, "*.ckpt") == before
    other = build_backbone(ARCH, "random:2", SIDE)
    cache_catalog(outfits, tmp_path / "other", other, colour=False)
    with pytest.raises(InputError, match=r"another spec(.|\n)*inputs: features"):
        run_recipe(inputs.recipe(), copied, **{**inputs.places, "features": str(tmp_path / "other")})
    (copied / "runs" / "vlm-s1.json").unlink()
    with pytest.raises(InputError, match="of other weights or another preparation"):
        run_recipe(inputs.recipe(), copied, **{**inputs.places, "weights": "random:2"})
    with pytest.raises(InputError, match="of other weights or another preparation"):
        run_recipe(inputs.recipe(*ONE, name="one"), tmp_path / "new", **{**inputs.places, "weights": "random:2"})


def test_settings_and_people_s_questions_may_not_change(copied: Path, inputs: Inputs) -> None:
    changes = (
        ("lr: 0.02", "lr: 0.01", "training: lr 0.02 there, 0.01 here"),
        ("test: 120", "test: 110", "judged: test 120 there, 110 here"),
        ("{feed: 224}", "{feed: 223}", "arms, vlm: network"),
    )
    for old, new, said in changes:
        with pytest.raises(InputError, match="another spec") as caught:
            run_recipe(inputs.recipe((old, new), name="other"), copied, **inputs.places)
        assert said in str(caught.value)
    people = inputs.human.read_text()
    try:
        inputs.human.write_text(people.replace("red", "blue"))
        with pytest.raises(InputError, match=r"another spec(.|\n)*inputs: human"):
            run_recipe(inputs.recipe(), copied, **inputs.places)
    finally:
        inputs.human.write_text(people)


def test_equal_arms_have_equal_sizes(inputs: Inputs, tmp_path: Path) -> None:
    """Found before anything is trained; arms that need not be equal are not compared."""
    recipe = inputs.recipe(("{feed: 224}", "{feed: 180}"), name="unequal")
    with pytest.raises(InputError, match="more than 5% apart") as caught:
        run_recipe(recipe, tmp_path / "out", **inputs.places)
    assert "vlm 14,068, mcan 1.5 15,599" in str(caught.value)
    assert not (tmp_path / "out" / "trained").exists()


@pytest.mark.parametrize(
    ("old", "new", "problem", "line"),
    [
        ("{name: truth,", "{name: vlm,", "each once", 10),
        ("{name: truth,", "{name: mcan-1.5,", "each once", 10),
        ("{name: truth,", "{name: ../truth,", "begin with a letter", 10),
        ("name: truth, kind: vlm", "name: truth, kind: vml", "nearest allowed: 'vlm'", 14),
        ("against: vlm}", "against: nobody}", "no such arm", 14),
        ("against: vlm}", "against: vlm, width: 3}", "unknown key", 14),
        ("network: {blind: true}", "network: {}", "blind arm looks", 13),
        ("blind: blind\n", "blind: nobody\n", "no such arm", 8),
        ("{test: 120, ", "{", "`test` is needed", 6),
        ('"entailed:test"', "paraphrases", "nearest allowed: 'paraphrase'", 6),
        ('"entailed:test"', '"entailed:val"', "no such split", 6),
        ('"entailed:test"', "compositional", "no such split", 6),
        ("test: 120", "test: 0", "at least one question", 6),
        ("seeds: [0, 1]", "seeds: []", "seeds are needed", 7),
        ("seeds: [0, 1]", "seeds: [1, 1]", "each once", 7),
        ("steps: 12", "steps: many", "int is needed", 4),
    ],
)
def test_misuse_is_told_with_its_line(
    old: str, new: str, problem: str, line: int, inputs: Inputs, tmp_path: Path
) -> None:
    recipe = inputs.recipe((old, new), name="wrong")
    with pytest.raises(InputError, match=problem) as caught:
        run_recipe(recipe, tmp_path / "out", **inputs.places)
    assert (caught.value.file, caught.value.row) == (Path(recipe), line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["catalog", "questions", "features", "weights"])
def test_places_must_be_there(place: str, inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"--{place}"):
        run_recipe(inputs.recipe(), tmp_path / "out", **{**inputs.places, place: None})
    if place != "weights":
        with pytest.raises(InputError, match=f"--{place}"):
            run_recipe(inputs.recipe(), tmp_path / "out", **{**inputs.places, place: str(tmp_path / "none")})
        with pytest.raises(InputError):  # a folder of something else
            run_recipe(inputs.recipe(), tmp_path / "out", **{**inputs.places, place: str(tmp_path)})
    assert not (tmp_path / "out").exists()


def test_people_s_questions_must_fit_the_set(inputs: Inputs, tmp_path: Path) -> None:
    for text, problem in (("p0000", "no such picture"), ("question_id", "question_id")):
        file = tmp_path / "human.csv"
        file.write_text(inputs.human.read_text().replace(text, "nothing"))
        recipe = inputs.recipe(("human: HUMAN", f"human: {file}"), name="human")
        with pytest.raises(InputError, match=problem):
            run_recipe(recipe, tmp_path / "out", **inputs.places)
    recipe = inputs.recipe(("human: HUMAN", "human: nobody.csv"), name="human")
    with pytest.raises(InputError, match=r"nobody\.csv"):
        run_recipe(recipe, tmp_path / "out", **inputs.places)


def test_the_commands(series: Path, inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [word for name, value in inputs.places.items() for word in (f"--{name}", value)]
    assert main(["eval", "run", inputs.recipe(), "--out", str(series), *places]) == 0
    printed = capsys.readouterr()
    assert "8 runs; `fashionkit eval table" in printed.out and "8 runs, 0 to do" in printed.err
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text("# Figures\n")
    words = ["eval", "table", str(series), "--resamples", "20", "--page", str(page), "--name", "vqa"]
    assert main([*words, "--json", str(figures)]) == 0
    assert "| mcan 1.5 |" in page.read_text() and len(json.loads(figures.read_text())["rows"]) == 4


def test_torch_is_loaded_in_workers_only(root: Path) -> None:
    """Processes are forked, which its threads would not survive."""
    code = (
        "import sys; from fashionkit.eval.protocols import PROTOCOLS; PROTOCOLS['vqa'](); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
