"""The benchmark of question generation runs at a tiny size and gives every figure; how fast it is says nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from fashionkit.catalog.drawn import DrawOptions, draw_catalog

SPEC = """
packs: [core]
families: {B2: 0, B3: 0, B4: 0, B5: 0, C2: 0, C3: 0, C4: 0, C5: 0, C7: 0, N1: 0}
"""


@pytest.fixture(scope="module")
def reference(root: Path) -> ModuleType:
    """`benchmarks/reference_generator.py`, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "benchmarks"))
        import reference_generator

    return reference_generator


def test_benchmark_runs_and_gives_every_figure(root: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    sizes = {"--images": "60", "--phrasings": "1", "--rendered": "300", "--seconds": "0.3", "--workers": "2"}
    sizes |= {"--spec": str(tmp_path / "spec.yaml"), "--json": str(tmp_path / "figures.json")}
    command = [sys.executable, str(root / "benchmarks/datagen.py"), *(word for pair in sizes.items() for word in pair)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    made, more = figures["generated"], figures["generated_more"]
    assert made["samples"] > made["programs"] > 100  # the paraphrase split repeats those of test
    assert more["programs"] == made["programs"] and more["samples"] > 3 * made["samples"]
    assert list(made["phases"]) == ["compiling", "counting", "solving", "selecting", "placing", "writing", "finishing"]
    assert sum(made["phases"].values()) == pytest.approx(made["seconds"], abs=0.1)
    assert figures["plain_writer"]["rows"] == made["samples"]
    assert figures["size"]["bytes_per_sample_uncompressed"] == 27
    rates = [made["samples_per_second"], *figures["rendered"]["samples_per_second"].values()]
    rates += [figures["plain_writer"]["rows_per_second"], figures["plain_generator"]["samples_per_second"]]
    assert min(rates) > 0 and min(figures["ratios"].values()) > 0 and min(made["worker_mib"], made["parent_mib"]) > 20
    for words in (
        "ids to Parquet",
        "rendered, processes: 2",
        "peak memory",
        "random ids by pyarrow",
        "plain generator",
    ):
        assert words in found.stdout


def test_benchmark_of_full_scale_runs_the_command(root: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    words = ["--images", "60", "--spec", str(tmp_path / "spec.yaml"), "--samples", "900", "--json", str(tmp_path / "f")]
    found = subprocess.run(
        [sys.executable, str(root / "benchmarks/scale.py"), *words], capture_output=True, text=True, cwd=root
    )
    assert found.returncode == 0, found.stderr
    figures = json.loads((tmp_path / "f").read_text())
    made = figures["run"]
    assert 500 < made["samples"] <= 1100 and made["images"] == 60 and figures["plain_writer"]["rows"] == made["samples"]
    assert made["peak_mib"] > 20 and made["mib_on_disk"] > 0 and figures["ratio"] > 0
    assert "wall time" in found.stdout and "peak memory" in found.stdout


def test_plain_generator_asks_sound_and_balanced_questions(reference: ModuleType, tmp_path: Path) -> None:
    draw_catalog(tmp_path / "drawn", DrawOptions(80, pictures=False, workers=1))
    plain = reference.Reference(*reference.read_scenes(tmp_path / "drawn"), seed=3)
    samples = list(islice(plain.samples(), 4000))
    assert {s.family for s in samples} == set(reference.FAMILIES)
    assert len({(s.image, s.template, *s.slots) for s in samples}) == len(samples)
    for (family, *_), counts in plain.counts.items():
        if family in ("B1", "B2", "B3", "B4", "B5", "B6"):
            assert abs(counts["yes"] - counts["no"]) <= 1
    for sample in samples:
        items = plain.scenes[sample.image]
        named = [item for item in items if sample.slots[0] in item["chain"]]
        if sample.family in ("B2", "B5"):
            attribute, value = sample.slots[1].split("/")
            true = named[0]["values"][attribute] == value
            assert len(named) == 1 and (sample.answer == "yes") == (true == (sample.family == "B2"))
        elif sample.family == "B1":
            assert (sample.answer == "yes") == bool(named)
        elif sample.family == "N1":
            assert not named
        texts = {plain.render(sample, number)[0] for number in range(4)}
        assert len(texts) == 4 and all(text[0].isupper() and text[-1] == "?" for text in texts)
