"""Folders of answers as measures with intervals: of one model, of its seeds, against a blind one, against another.

    answers (one folder, or one a seed) ─► joined by question ─► `Side` ─► name → `Weighted` ─► value, low, high
    answers of two sides to the same questions ─► the differences of all of these, by the same draws of pictures

What the measures are is said in `fashionkit.metrics.answering`. Groups that are drawn are the split groups of the
pictures. Several folders of one side are seeds of one model, the outer level.

Letters: n questions, S seeds, G groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fashionkit.eval.vqa_asked import BINARY, plain_text
from fashionkit.eval.vqa_side import Paths, Side, check_pair, read_side
from fashionkit.metrics import answering
from fashionkit.metrics.answering import Measure, Rows, Weighted, estimate, gain, plain
from fashionkit.metrics.consistency import consistency

Array = npt.NDArray[Any]
NOT_PRESENT, CANNOT_TELL = "not present", "cannot tell"
CONFUSIONS = 40
POINTS = 50  # of the curve of coverage and risk
WORDS = {
    "accuracy": "right answers",
    "binary": "of questions that ask for yes or no",
    "open": "of all others",
    "macro": "mean over answers",
    "arithmetic": "mean over families",
    "harmonic": "harmonic mean over families",
    "arithmetic_normalised": "mean over families of the mean over answers",
    "harmonic_normalised": "harmonic mean over families of the mean over answers",
    "not_present_precision": "“not present”: of those given, right",
    "not_present_recall": "“not present”: of those right, given",
    "not_present_f1": "F1 of “not present”",
    "valid": "answers that the question allows",
    "swap": "two pictures, one question, two answers: both right",
    "consistency": "of what follows from right answers, right",
    "free": "right in the network’s own words",
    "told": f"right, where unlikely answers count as “{CANNOT_TELL}”",
    "answered": f"likely enough not to be “{CANNOT_TELL}”",
    "right_of_answered": "of these, right",
    "known": "questions whose answer the model knows",
    "ece": "expected calibration error",
    "loss": "-log of the probability of the right answer",
}


def measure(folders: Paths, blind: Paths = (), resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """The measures of a model, in plain types.

    Args:
        folders: Its answers, a folder for each seed. blind: Those of a model that does not look, to the same questions.
        resamples, seed: Of the intervals.

    Returns:
        `questions`, `pictures`, `groups`, `seeds`, `split`; `measures`: name of WORDS → value, low, high, n;
        `families`, `attributes`: rows of these; `answers`, `confusions`, `reliability`, `coverage`; `aurc`,
        `distribution`; with `blind` also `gain` and, of families, `gain`, `gain_low`, `gain_high`.

    Raises:
        InputError: See `read_side`; or the blind model was asked other questions.
    """
    whole = read_side(folders)
    side = whole.asked()

    def of(found: Weighted) -> Measure:
        return estimate(found, resamples, seed)

    figures: dict[str, Any] = {
        "split": str(side.manifest.params.get("split")),
        "questions": len(side.group),
        "pictures": len(np.unique(side.column("image_id"))),
        "groups": len(np.unique(side.group)),
        "seeds": len(side.paths),
        "cannot_tell": side.threshold,
        "measures": {name: of(part).to_dict() for name, part in weighted(whole).items()},
        "families": _rows(families(side), of),
        "attributes": _rows(attributes(side), of),
        "answers": _answers(side),
        "confusions": answering.confusions(np.tile(side.truth, len(side.paths)).tolist(), _said(side), CONFUSIONS),
        "distribution": _distribution(side),
        "reliability": answering.reliability(side.probability, side.right),
        **_coverage(side),
    }
    if len(blind):
        other = read_side(blind)
        check_pair(whole, other)
        both = weighted(whole), weighted(other)
        figures["gain"] = {name: of(gain(both[0][name], both[1][name])).to_dict() for name in _common(*both)}
        apart = families(side), families(other.asked())
        for row in figures["families"]:
            row |= _named("gain", of(gain(apart[0][row["name"]], apart[1][row["name"]])))
    return figures


def compare(one: Paths, two: Paths, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """By how much one model is better than another, on the same questions and the same draws of groups.

    Args:
        one, two: Answers, a folder for each seed of a model. resamples, seed: Of the intervals.

    Returns:
        `measures`: name → value, low, high of one minus two; `families`, `attributes`: rows of the same.

    Raises:
        InputError: See `read_side`; or they were asked other questions.
    """
    first, second = read_side(one), read_side(two)
    check_pair(first, second)

    def of(a: dict[str, Weighted], b: dict[str, Weighted]) -> dict[str, Weighted]:
        return {name: gain(a[name], b[name]) for name in _common(a, b)}

    def measured(found: Weighted) -> Measure:
        return estimate(found, resamples, seed)

    sides = first.asked(), second.asked()
    return {
        "one": [str(path) for path in first.paths],
        "two": [str(path) for path in second.paths],
        "measures": {name: measured(part).to_dict() for name, part in of(weighted(first), weighted(second)).items()},
        "families": _rows(of(families(sides[0]), families(sides[1])), measured),
        "attributes": _rows(of(attributes(sides[0]), attributes(sides[1])), measured),
    }


def weighted(whole: Side) -> dict[str, Weighted]:
    """The measures of WORDS that these answers have."""
    side = whole.asked()
    right, group, size = side.right, side.group, side.size
    binary = side.column("kind") == BINARY
    truth = _plain(side.truth)
    families_, answered = side.families, side.probability >= side.threshold
    parts: dict[str, Weighted] = {"accuracy": answering.mean(right, group, size)}
    for name, mask in (("binary", binary), ("open", ~binary)):
        parts[name] = answering.mean(right[:, mask], group[mask], size)
    parts["macro"] = answering.mean_over(right, truth, group, size)
    for name, harmonic in (("arithmetic", False), ("harmonic", True)):
        parts[name] = answering.mean_over(right, families_, group, size, harmonic)
        parts[f"{name}_normalised"] = answering.mean_over(right, truth, group, size, harmonic, families_)
    missing = _plain(side.predicted) == NOT_PRESENT
    found = answering.detection(truth == NOT_PRESENT, missing, group, size)
    parts |= {f"not_present_{name}": part for name, part in found.items()}
    parts["valid"] = answering.mean(side.valid, group, size)
    pairs = answering.swap_pairs(side.column("question"), side.column("image_id"), truth)
    parts["swap"] = answering.swap(right, pairs, group, size)
    if whole is not side:
        parts["consistency"] = _consistency(whole)
    parts["free"] = answering.mean(side.free_right, group, size)
    parts["told"] = answering.mean(np.where(answered, right, truth == CANNOT_TELL), group, size)
    parts["answered"] = answering.mean(answered, group, size)
    parts["right_of_answered"] = answering.mean(np.where(answered, right, np.nan), group, size)
    parts["known"] = answering.mean(~np.isnan(side.loss), group, size)
    parts["ece"] = answering.calibration(side.probability, right.astype(bool), group, size)
    parts["loss"] = answering.mean(side.loss, group, size)
    return {name: part for name, part in parts.items() if part.n}


def families(side: Side) -> dict[str, Weighted]:
    """Accuracy of each family."""
    names = side.families
    return {name: _accuracy(side, names == name) for name in np.unique(names).tolist()}


def attributes(side: Side) -> dict[str, Weighted]:
    """Accuracy of each attribute, over all questions that it decides; `NAME, asked for`: of those that ask for it."""
    found, keys = {}, side.column("attribute")
    members = [set(key.split(",")) for key in keys.tolist()]
    for name in sorted(set[str]().union(*members) - {""}):
        mine = np.array([name in each for each in members])
        found[name] = _accuracy(side, mine)
        asked = mine & (side.column("kind") == "value")
        if asked.any():
            found[f"{name}, asked for"] = _accuracy(side, asked)
    return found


def _plain(texts: Array) -> Array:
    """The same texts as they are compared."""
    names, at = np.unique(texts, return_inverse=True)
    found: Array = np.array([plain_text(text) for text in names.tolist()], str)[at]
    return found


def _accuracy(side: Side, mask: Array) -> Weighted:
    return answering.mean(side.right[:, mask], side.group[mask], side.size)


def _consistency(whole: Side) -> Weighted:
    """Of each sample that was answered rightly, the share of what follows from it that is right."""
    follows = whole.table["source"].is_valid().to_numpy(zero_copy_only=False)
    links = whole.table.filter(pa.array(follows)).select(["qid", "source"])
    qid, right = whole.table["qid"].to_numpy(), whole.right.astype(bool)
    source = qid[~follows]
    scores = np.full((len(whole.paths), len(source)), np.nan)
    for row, mine in enumerate(right):
        found = consistency(source, mine[~follows], qid[follows], mine[follows], links)
        scores[row, np.isin(source, found.source)] = found.score  # both ascending, see `_read`
    return answering.mean(scores, whole.group[~follows], whole.size)


def _answers(side: Side) -> Rows:
    """Of each right answer: how often it is, and is given, and the share of right ones."""
    answers, at = np.unique(side.truth, return_inverse=True)
    n, right = np.bincount(at), np.bincount(at, side.right.mean(0))
    given = dict(zip(*np.unique(side.predicted, return_counts=True), strict=True))
    rows = [
        {
            "answer": str(text),
            "n": int(n[row]),
            "given": float(given.get(text, 0)) / len(side.paths),
            "right": float(right[row] / n[row]),
        }
        for row, text in enumerate(answers)
    ]
    return sorted(rows, key=lambda row: (-row["n"], row["answer"]))


def _said(side: Side) -> list[str]:
    """S x n given answers; where several are right and one of them is given, the first, so that it is no confusion."""
    found: list[str] = np.where(side.right.astype(bool), side.truth, side.predicted).reshape(-1).tolist()
    return found


def _distribution(side: Side) -> float | None:
    labels = np.char.add(np.char.add(side.column("kind"), " "), side.column("attribute"))
    each = [answering.distribution(labels, side.truth, said) for said in side.predicted]
    return plain(float(np.mean(each)))


def _coverage(side: Side) -> dict[str, Any]:
    coverage, risk = answering.coverage_risk(side.probability.reshape(-1), side.right.astype(bool).reshape(-1))
    at = np.unique(np.ceil(np.linspace(1 / POINTS, 1, POINTS) * len(risk)).astype(np.int64) - 1)
    curve = [{"coverage": float(coverage[one]), "risk": float(risk[one])} for one in at]
    return {"coverage": curve, "aurc": plain(float(risk.mean()))}


def _rows(parts: dict[str, Weighted], of: Callable[[Weighted], Measure]) -> Rows:
    return [{"name": name, **of(part).to_dict()} for name, part in parts.items()]


def _named(name: str, found: Measure) -> dict[str, Any]:
    values = found.to_dict()
    return {name: values["value"], f"{name}_low": values["low"], f"{name}_high": values["high"]}


def _common(one: dict[str, Weighted], two: dict[str, Weighted]) -> list[str]:
    return [name for name in one if name in two]
