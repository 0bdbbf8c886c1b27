"""The choice between ways of asking a predictor, by a clock of the tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from inferwatch.errors import PredictorError
from inferwatch_explainers.ways import Dialect, PredictorBusy, Way, fastest

OTHERS: tuple[Dialect, ...] = ("v2", "v2_binary", "grpc")


class Served:
    """Answers in each way after so many milliseconds; what is not listed is refused."""

    def __init__(self, took_ms: Mapping[Dialect, float], other_answers: Mapping[Dialect, float] | None = None) -> None:
        self.took_ms = took_ms
        self.other_answers = other_answers or {}
        self.now = 0.0
        self.asked: list[Dialect] = []

    def ask(self, dialect: Dialect, longest_s: float) -> NDArray[np.float64]:
        self.asked.append(dialect)
        took = self.took_ms.get(dialect, 1.0) / 1000
        self.now += min(took, longest_s)
        if dialect not in self.took_ms or took > longest_s:
            raise PredictorError(f"no {dialect} here")
        return np.array([1.0, 2.0 + self.other_answers.get(dialect, 0.0)])

    def choose(self, left_s: float = 60.0) -> Way:
        return fastest("v1", OTHERS, self.ask, left_s, lambda: self.now)


@pytest.mark.parametrize("best", ["v1", "v2", "v2_binary", "grpc"])
def test_the_fastest_way_is_taken_and_the_others_are_told(best: Dialect) -> None:
    took: dict[Dialect, float] = {"v1": 12.0, "v2": 10.0, "v2_binary": 14.0, "grpc": 20.0, best: 3.0}
    served = Served(took)
    way = served.choose()
    assert way.dialect == best
    assert all(f"{dialect} took {milliseconds:.1f} ms" in way.why for dialect, milliseconds in took.items())
    assert len(served.asked) == 12


def test_json_that_is_hardly_faster_than_raw_bytes_is_not_taken() -> None:
    assert Served({"v1": 9.0, "v2": 9.5, "v2_binary": 11.0}).choose().dialect == "v2_binary"
    assert Served({"v1": 8.0, "v2": 9.5, "v2_binary": 11.0}).choose().dialect == "v1"


def test_a_fast_way_that_answers_otherwise_or_not_at_all_is_not_taken() -> None:
    way = Served({"v1": 10.0, "v2": 12.0, "v2_binary": 1.0}, {"v2_binary": 1e-3}).choose()
    assert way.dialect == "v1"
    assert "v2_binary: it answers otherwise" in way.why
    assert "grpc: no grpc here" in way.why


def test_a_slow_server_is_compared_in_fewer_turns_and_a_quarter_of_the_time() -> None:
    served = Served({"v1": 40.0, "v2": 900.0, "v2_binary": 30.0})
    assert served.choose(left_s=2.0).dialect == "v2_binary"
    assert served.now <= 0.04 + 2.0 / 4
    assert len(served.asked) == 4
    hurried = Served({"v1": 200.0, "v2_binary": 1.0})
    assert hurried.choose(left_s=0.5) == Way(
        "v1", "v1 took 200.0 ms; " + "; ".join(f"{dialect}: no time was left to ask" for dialect in OTHERS)
    )


def test_a_way_that_is_busy_leaves_the_choice_for_later() -> None:
    def ask(dialect: Dialect, _: float) -> NDArray[np.float64]:
        if dialect == "v2":
            raise PredictorBusy("busy")
        return np.ones(2)

    with pytest.raises(PredictorBusy):
        fastest("v1", OTHERS, ask, 60.0)
