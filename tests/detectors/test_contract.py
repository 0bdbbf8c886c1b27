"""What every detector keeps, checked for every row of the registry."""

import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from inferwatch.errors import InvalidRows
from inferwatch.finding import Finding
from inferwatch.promise import Promise
from inferwatch.protocols import Detector
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Matrix
from inferwatch_detectors.plugins import entry_for
from inferwatch_detectors.registry import DETECTORS, Asked, Entry
from tests.detectors.references import encoded, numbers, people, reference

EXAMPLE = Path(__file__).parents[2] / "examples" / "inferwatch-median"
sys.path.append(str(EXAMPLE))
ALL = pytest.mark.parametrize(
    "entry",
    [*DETECTORS.values(), entry_for("drift", "inferwatch_median:MedianDrift")],
    ids=lambda entry: f"{entry.kind}-{entry.method}",
)
REFERENCE = reference()
RATE = 0.01


@cache
def built(entry: Entry, against: Reference = REFERENCE, *, rate: float = RATE, report_all: bool = False) -> Detector:
    asked = Asked(
        window_rows=200,
        promise=Promise(1 / rate),
        smallest_effect=0.0,
        dependence=None,
        false_alarm_rate=rate,
        report_all=report_all,
        expect={},
    )
    return entry.build(against, asked)


def normal(count: int, seed: int = 1) -> Matrix:
    return encoded(REFERENCE, np.random.default_rng(seed), count)


def planted(entry: Entry) -> Matrix:
    """A window in which everybody is 10 years older, or ages are broken; or one row has other units."""
    rows = normal(200)
    if entry.kind == "quality":
        rows[:20, 0] = np.inf
    elif entry.windowed:
        rows[:, 0] += 10
    else:
        rows[17] = [rows[17, 0] * 12, 30, 2280, 1, 4, np.nan]
    return rows


@ALL
def test_it_is_a_detector_under_its_own_name(entry: Entry) -> None:
    detector = built(entry)

    assert isinstance(detector, Detector)
    for finding in detector.observe(Batch.of(planted(entry))):
        assert (finding.kind, finding.method) == (entry.kind, entry.method)


@ALL
def test_the_batch_is_left_alone_and_the_answer_is_always_the_same(entry: Entry) -> None:
    rows = planted(entry)
    batch = Batch.of(rows.copy())
    detector = built(entry)
    first = detector.observe(batch)

    assert np.array_equal(batch.values, rows, equal_nan=True)
    assert detector.observe(batch) == first
    assert built.__wrapped__(entry).observe(batch) == first


@ALL
def test_a_planted_change_fires_and_is_named(entry: Entry) -> None:
    fired = [finding for finding in built(entry).observe(Batch.of(planted(entry))) if finding.fired]

    assert fired
    assert all(finding.score > finding.threshold for finding in fired)
    assert any("age" in finding.why for finding in fired)
    if not entry.windowed:
        assert any(finding.payload_id == finding.key == "row-17" for finding in fired)


@ALL
def test_it_is_silent_on_the_reference_at_the_stated_rate(entry: Entry) -> None:
    """100 windows of 200 rows like the reference's, at a rate of 1 %: at most 5 windows, or between 100 and 320 rows.

    For windows the chance of more is 0.05 % (binomial). For rows 2 % of 20,000 is beyond five standard deviations of
    the Beta distribution of the rate that 3,999 calibration rows achieve.
    """
    detector = built(entry)
    random = np.random.default_rng(23)
    fired = sum(
        finding.fired for _ in range(100) for finding in detector.observe(Batch.of(encoded(REFERENCE, random, 200)))
    )

    assert fired <= 5 if entry.windowed else 100 <= fired <= 320


@ALL
def test_findings_are_complete_and_json_ready(entry: Entry) -> None:
    batch = Batch.of(planted(entry))
    findings = built(entry, report_all=True).observe(batch)

    assert len(findings) == (1 if entry.windowed else len(batch))
    for finding in findings:
        named = json.loads(json.dumps(finding.as_dict(), allow_nan=False))
        assert named["fired"] == (named["score"] > named["threshold"])
        assert finding.assumption
        assert finding.why
        assert 0 < named["p_value"] <= 1
        assert (finding.window is not None) == entry.windowed
        assert (finding.payload_id is None) == entry.windowed


@ALL
@pytest.mark.parametrize("shape", [(5, 5), (5, 7), (5,)])
def test_rows_of_another_width_are_refused(entry: Entry, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRows, match="6 columns"):
        built(entry).observe(Batch.of(np.zeros(shape)))


@ALL
def test_all_rows_are_answered_whatever_is_in_them(entry: Entry) -> None:
    detector = built(entry, report_all=True)
    unseen = normal(3)
    unseen[:, 4] = 4
    zeros = np.where(np.isnan(normal(3)), 0, normal(3))
    for rows in (np.full((3, 6), np.nan), zeros, unseen, _aged(np.inf, -np.inf, 0), _aged(1e308, -1e308, 0)):
        findings = detector.observe(Batch.of(rows))
        assert findings
        assert all(json.dumps(finding.as_dict(), allow_nan=False) for finding in findings)


def _aged(*ages: float) -> Matrix:
    rows = normal(3)
    rows[:, 0] = ages
    return rows


@ALL
@pytest.mark.parametrize("count", [1, 3, 450])
def test_windows_of_any_size_are_judged(entry: Entry, count: int) -> None:
    findings = built(entry, report_all=True).observe(Batch.of(normal(count)))

    assert len(findings) == (1 if entry.windowed else count)


@pytest.mark.slow
@ALL
def test_tiny_windows_like_the_reference_do_not_fire(entry: Entry) -> None:
    """At a rate of 1e-4 (windows of 3 rows) or 1e-3 (rows), 100 windows: at most 2 windows or rows."""
    detector = built(entry, rate=1e-4 if entry.windowed else 1e-3)
    random = np.random.default_rng(3)
    fired = [f for _ in range(100) for f in detector.observe(Batch.of(encoded(REFERENCE, random, 3))) if f.fired]

    assert len(fired) <= 2


@ALL
@pytest.mark.parametrize(
    "column",
    [np.zeros(2000), np.full(2000, np.nan), np.repeat([0.0, 1.0], [1999, 1]), np.repeat(np.arange(4.0), 500)],
    ids=["constant", "missing", "one row differs", "ties"],
)
def test_odd_references_are_no_reason_to_fire_or_fail(entry: Entry, column: Matrix) -> None:
    random = np.random.default_rng(6)
    against = numbers(np.column_stack([column, random.normal(size=2000)]))
    detector = built(entry, against)
    rows = np.column_stack([random.choice(column, 200), random.normal(size=200)])
    fired = [finding for finding in detector.observe(Batch.of(rows)) if finding.fired]

    assert len(fired) <= (0 if entry.windowed else 8)


@pytest.mark.parametrize("entry", [entry for entry in DETECTORS.values() if not entry.windowed], ids=lambda e: e.method)
def test_row_detectors_see_rows_alone(entry: Entry) -> None:
    detector = built(entry)
    batch = Batch.of(planted(entry))
    parts: list[Finding] = []
    for start in range(0, len(batch), 33):
        parts.extend(detector.observe(batch.slice(start, start + 33)))

    assert _told(parts) == _told(detector.observe(batch))


def _told(findings: Sequence[Finding]) -> list[tuple[str | None, float]]:
    return [(finding.payload_id, finding.score) for finding in findings]


def test_the_references_rows_are_what_they_say() -> None:
    assert REFERENCE.schema.names == people(np.random.default_rng(0), 10).names
