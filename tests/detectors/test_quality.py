"""Each fault is told apart, named, and fires as often as promised; what is declared always fires."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from inferwatch.errors import InvalidOption, UnkeepablePromise
from inferwatch.promise import Promise
from inferwatch.rows import Batch, Column, Matrix, Rows
from inferwatch_detectors import QualityCheck
from inferwatch_detectors.beta_binomial import log_all_alike, log_at_least
from inferwatch_detectors.quality import Expectation
from tests.detectors.references import encoded, numbers, reference

REFERENCE = reference()
HIGHEST = REFERENCE.rows[:, 0].max()


def check(**options: Any) -> QualityCheck:
    return QualityCheck(REFERENCE, window_rows=200, promise=Promise(1000), **options)


def window(seed: int = 3) -> Matrix:
    return encoded(REFERENCE, np.random.default_rng(seed), 200)


def wrongly_typed() -> Matrix:
    """Rows of which 20 hold a text where the age belongs, as the reference's schema encodes them."""
    rows = window()
    columns = [Column(name, rows[:, index].astype(object)) for index, name in enumerate(REFERENCE.schema.names)]
    columns[0].values[:20] = "forty"
    columns[4] = Column("place", np.array([*["office"] * 200], dtype=object))
    encoded_rows = REFERENCE.schema.encode(Rows(tuple(columns), 200)).values
    encoded_rows[:, 4] = rows[:, 4]
    return encoded_rows


def changed(where: Any, value: float) -> Matrix:
    rows = window()
    rows[where] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (changed((slice(20), 0), np.nan), "age: 10 % missing, none in the reference"),
        (changed((slice(60), 2), np.nan), "% missing, 4.9 % in the reference"),
        (wrongly_typed(), "age: 10 % of the wrong type, none in the reference"),
        (changed((slice(20), 0), np.inf), "age: 10 % infinite, none in the reference"),
        (changed((slice(20), 0), 1000.0), f"age: 10 % above {HIGHEST:,.6g}, none in the reference"),
        (changed((slice(20), 0), -1000.0), "age: 10 % below"),
        (changed((slice(20), 4), 4.0), "place: 10 % unlisted, none in the reference"),
        (changed((slice(None), 0), 40.0), "age: 100 % one value, where the reference varies"),
        (changed((slice(20), 3), 2.0), "one: 10 % above 1, none in the reference"),
    ],
    ids=["missing", "more missing", "type", "infinite", "above", "below", "unlisted", "constant", "left its value"],
)
def test_every_fault_fires_under_its_name(rows: Matrix, said: str) -> None:
    [finding] = check().observe(Batch.of(rows))

    assert finding.fired
    assert said in finding.why
    assert finding.why.endswith("1 of 6 features at fault")
    assert sum(feature.fired for feature in finding.features) == 1


def test_what_is_usual_is_no_fault() -> None:
    [finding] = check().observe(Batch.of(window()))

    assert not finding.fired
    assert finding.why == "no more faults than expected"


@pytest.mark.parametrize(
    ("expect", "rows", "said"),
    [
        ({"age": Expectation(most=70)}, changed((0, 0), 71.0), "age: 0.5 % above 70, 0 % expected at most"),
        ({"age": Expectation(least=0)}, changed((0, 0), -1.0), "age: 0.5 % below 0, 0 % expected at most"),
        ({"hours": Expectation(missing_at_most=0.01)}, window(), "hours: 5.5 % missing, 1 % expected at most"),
        ({"place": Expectation(unseen_at_most=0)}, changed((0, 4), 4.0), "place: 0.5 % unlisted, 0 % expected"),
    ],
    ids=["max", "min", "missing", "unseen"],
)
def test_what_is_declared_fires_with_one_row(expect: dict[str, Expectation], rows: Matrix, said: str) -> None:
    rows[:, 0] = np.where(rows[:, 0] > 71, 60, rows[:, 0])
    [found] = check(expect=expect).observe(Batch.of(rows))
    [learnt] = check().observe(Batch.of(rows))

    assert found.fired
    assert said in found.why
    assert not learnt.fired


def test_what_is_declared_replaces_what_was_learnt() -> None:
    lenient = {"age": Expectation(least=-5000, most=5000), "hours": Expectation(missing_at_most=0.9)}
    rows = changed((slice(20), 0), 1000.0)
    rows[:100, 2] = np.nan

    [finding] = check(expect=lenient).observe(Batch.of(rows))
    assert not finding.fired


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ({"height": Expectation(least=0)}, "'height', which is no feature; there are age"),
        ({"place": Expectation(least=0)}, "'place' by min or max"),
        ({"age": Expectation(unseen_at_most=0)}, "unseen categories of 'age'"),
    ],
)
def test_expectations_that_do_not_fit_are_refused(expect: dict[str, Expectation], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        check(expect=expect)


def test_a_promise_that_the_reference_cannot_carry_is_refused() -> None:
    with pytest.raises(UnkeepablePromise):
        QualityCheck(numbers(np.arange(10.0)[:, np.newaxis]), window_rows=3, promise=Promise(1e6))


def test_the_tail_is_scipys_beta_binomial() -> None:
    for count, rows, a, b in ((1, 200, 0.5, 5000.5), (30, 200, 250.5, 4750.5), (200, 200, 1.0, 5000.0), (0, 9, 1, 1)):
        expected = np.logaddexp.reduce(stats.betabinom.logpmf(np.arange(count, rows + 1), rows, a, b))
        assert log_at_least(count, rows, a, b) == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


def test_one_cell_for_all_rows_is_bounded_by_its_probability() -> None:
    assert log_all_alike(np.array([500, 500]), 1) == pytest.approx(0.0, abs=1e-9)
    assert log_all_alike(np.array([50_000, 50_000]), 10) == pytest.approx(np.log(2 * 0.5**10), rel=1e-2)


def test_alarms_come_no_more_often_than_promised() -> None:
    """At 5 % over 40 references x 25 windows with missing values, ties and categories: at most 7 %."""
    random = np.random.default_rng(1)
    fired = 0
    for seed in range(40):
        against = reference(seed, 1500)
        detector = QualityCheck(against, window_rows=150, promise=Promise(20))
        for _ in range(25):
            fired += detector.observe(Batch.of(encoded(against, random, 150)))[0].fired

    assert fired <= 70
