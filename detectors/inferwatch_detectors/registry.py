"""Which detectors there are: one row each, read by the service, the configuration checks and the contract tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from inferwatch.finding import DetectorKind
from inferwatch.promise import Promise
from inferwatch.protocols import Detector
from inferwatch.reference import Reference
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.histogram import HistogramDrift
from inferwatch_detectors.mahalanobis import MahalanobisOutlier


class Build(Protocol):
    """Makes a detector. Every builder is offered everything and takes what its detector needs."""

    def __call__(
        self,
        reference: Reference,
        *,
        window_rows: int,
        promise: Promise,
        smallest_effect: float,
        dependence: Dependence | None,
        false_alarm_rate: float,
        report_all: bool,
    ) -> Detector:
        """Return the detector. Raises `UnkeepablePromise` where the reference cannot carry what is promised."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One detector: `windowed` ones are given whole windows and answer each with a finding, others any rows."""

    kind: DetectorKind
    method: str
    windowed: bool
    build: Build


def _histogram(
    reference: Reference,
    *,
    window_rows: int,
    promise: Promise,
    smallest_effect: float,
    dependence: Dependence | None,
    false_alarm_rate: float,  # noqa: ARG001 - a row detector's
    report_all: bool,  # noqa: ARG001 - a row detector's
) -> Detector:
    return HistogramDrift(
        reference,
        window_rows=window_rows,
        promise=promise,
        smallest_effect=smallest_effect,
        dependence=dependence,
    )


def _mahalanobis(
    reference: Reference,
    *,
    window_rows: int,  # noqa: ARG001 - a window detector's
    promise: Promise,  # noqa: ARG001 - a window detector's
    smallest_effect: float,  # noqa: ARG001 - a window detector's
    dependence: Dependence | None,  # noqa: ARG001 - a window detector's
    false_alarm_rate: float,
    report_all: bool,
) -> Detector:
    return MahalanobisOutlier(reference, false_alarm_rate=false_alarm_rate, report_all=report_all)


_ENTRIES = (
    Entry("drift", "histogram", True, _histogram),
    Entry("outlier", "mahalanobis", False, _mahalanobis),
)

DETECTORS: Mapping[tuple[DetectorKind, str], Entry] = {(entry.kind, entry.method): entry for entry in _ENTRIES}
"""The detectors by kind and method, as a configuration names them."""
