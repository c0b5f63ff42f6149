"""Slips of the pen: they depend on seed, epoch and question alone, and never on what was done before."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionkit.tables import InputError
from fashionkit.train.slips import KINDS, SMALL, Slips, slipped

TEXT = "Is the long-sleeved blazer in this outfit not striped or red?"
QID = np.arange(4000)
TEXTS = [TEXT] * len(QID)
BITS = st.integers(0, 2**64 - 1)


def test_the_same_questions_slip_whatever_else_is_asked() -> None:
    whole = Slips(0.1, 3)(2, QID, TEXTS)
    part = QID[1000:1500]
    assert Slips(0.1, 3)(2, part, TEXTS[:500]) == {q - 1000: text for q, text in whole.items() if q in part}
    others = [Slips(0.1, 3)(1, QID, TEXTS), Slips(0.1, 4)(2, QID, TEXTS)]
    assert all(whole != other and set(whole) != set(other) for other in others)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_share_is_that_asked_for(share: float) -> None:
    found = Slips(share, 0)(0, QID, TEXTS)
    assert len(found) == pytest.approx(share * len(QID), abs=5 * np.sqrt(len(QID) * share * (1 - share)))
    assert all(text != TEXT for text in found.values()), "this text offers a place for every slip"


def test_all_kinds_of_slips_occur() -> None:
    found = Counter(Slips(1.0, 0)(0, QID, TEXTS).values())
    said = {text.rstrip("?") for text in found}
    assert TEXT.rstrip("?") in said  # only the mark is gone
    assert {"Is long-sleeved blazer outfit not striped or red", TEXT[:-1].replace("the long", "thelong")} <= said
    assert TEXT[:-1].replace("blazer", "balzer") in said and TEXT[:-1].replace("blazer", "blazzer") in said
    assert TEXT[:-1].replace("striped", "strped") in said
    assert 0.5 < sum(number for text, number in found.items() if not text.endswith("?")) / len(QID) < 0.8


@given(st.text(max_size=60), BITS, BITS)
def test_any_text_stays_a_text(text: str, kind: int, place: int) -> None:
    found = slipped(text, kind, place)
    assert bool(found.strip()) == bool(text.strip())
    assert found == slipped(text, kind, place)


@given(st.lists(st.sampled_from(["not", "or", "no", "red", *sorted(SMALL), "blazer", "long"]), min_size=1), BITS, BITS)
def test_words_that_turn_a_question_round_stay(words: list[str], kind: int, place: int) -> None:
    found = slipped(" ".join(words) + "?", kind, place).rstrip("?")
    kept = [word for word in words if word not in SMALL and len(word) < 4]
    letters = found.replace(" ", "")
    at = 0
    for word in kept:  # in order, whole
        at = letters.index(word, at) + len(word)


@pytest.mark.parametrize("function", KINDS)
def test_a_text_without_a_place_is_left_as_it_is(function: object) -> None:
    assert callable(function)
    assert function("of", 12345) == "of" and function("", 5) == ""


def test_letters_are_neither_first_nor_lost() -> None:
    for place in range(0, 1 << 20, 4099):
        for function in KINDS[1:4]:
            found = function("blazer", place)
            assert found[0] == "b" and abs(len(found) - 6) <= 1 and set(found) <= set("blazer")


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_no_such_share(share: float) -> None:
    with pytest.raises(InputError, match="share"):
        Slips(share, 0)
