"""Work ahead keeps the order, is really ahead, and passes errors on."""

from __future__ import annotations

import threading

import pytest

from fashionkit.engine.ahead import ahead


def test_order_and_one_ahead() -> None:
    begun = [threading.Event() for _ in range(5)]

    def prepare(number: int) -> int:
        begun[number].set()
        return number * number

    for number, result in enumerate(ahead(prepare, range(5))):
        assert result == number * number
        if number < 4:
            assert begun[number + 1].wait(5), "the next one is prepared while this one is used"
    assert list(ahead(prepare, [])) == []


def test_an_error_comes_where_its_result_would() -> None:
    found = ahead(lambda number: 1 // number, [1, 0, 1])
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
