"""Which detectors there are: one row each, read by the service, the configuration checks and the contract tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inferwatch.finding import DetectorKind
from inferwatch.promise import Promise
from inferwatch.protocols import Detector
from inferwatch.reference import Reference
from inferwatch_detectors.conformal_outlier import ConformalOutlier, OutlierMethod
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.histogram import HistogramDrift
from inferwatch_detectors.quality import Expectation, QualityCheck
from inferwatch_detectors.two_sample_drift import TwoSampleDrift, TwoSampleMethod


@dataclass(frozen=True, slots=True)
class Asked:
    """What a configuration asks of a detector; each one takes what it needs."""

    window_rows: int
    promise: Promise
    smallest_effect: float
    dependence: Dependence | None
    false_alarm_rate: float
    report_all: bool
    expect: Mapping[str, Expectation]


Build = Callable[[Reference, Asked], Detector]
"""Makes a detector. Raises `UnkeepablePromise` where the reference cannot carry what is promised, and `InvalidOption`
for an option that does not fit the reference."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One detector: `windowed` ones are given whole windows and answer each with a finding, others any rows."""

    kind: DetectorKind
    method: str
    windowed: bool
    build: Build


def _histogram(reference: Reference, asked: Asked) -> Detector:
    return HistogramDrift(
        reference,
        window_rows=asked.window_rows,
        promise=asked.promise,
        smallest_effect=asked.smallest_effect,
        dependence=asked.dependence,
    )


def _two_sample(method: TwoSampleMethod) -> Entry:
    def build(reference: Reference, asked: Asked) -> Detector:
        return TwoSampleDrift(
            reference,
            method=method,
            window_rows=asked.window_rows,
            promise=asked.promise,
            smallest_effect=asked.smallest_effect,
            dependence=asked.dependence,
        )

    return Entry("drift", method, True, build)


def _outlier(method: OutlierMethod) -> Entry:
    def build(reference: Reference, asked: Asked) -> Detector:
        return ConformalOutlier(
            reference, method=method, false_alarm_rate=asked.false_alarm_rate, report_all=asked.report_all
        )

    return Entry("outlier", method, False, build)


def _quality(reference: Reference, asked: Asked) -> Detector:
    return QualityCheck(
        reference,
        window_rows=asked.window_rows,
        promise=asked.promise,
        dependence=asked.dependence,
        expect=asked.expect,
    )


_ENTRIES = (
    Entry("drift", "histogram", True, _histogram),
    _two_sample("ks"),
    _two_sample("cvm"),
    _two_sample("chi_square"),
    _two_sample("wasserstein"),
    _two_sample("psi"),
    _two_sample("jensen_shannon"),
    _outlier("ensemble"),
    _outlier("mahalanobis"),
    _outlier("hbos"),
    _outlier("isolation_forest"),
    _outlier("knn"),
    _outlier("ecod"),
    Entry("quality", "quality", True, _quality),
)

DETECTORS: Mapping[tuple[DetectorKind, str], Entry] = {(entry.kind, entry.method): entry for entry in _ENTRIES}
"""The detectors by kind and method, as a configuration names them."""
