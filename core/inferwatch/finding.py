"""Findings: what a detector says about rows, in the shape that API, transport, metrics and notebooks share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal, Self

from inferwatch.clock import format_time, parse_time
from inferwatch.events import Stream

DetectorKind = Literal["drift", "outlier", "adversarial", "quality", "fairness", "performance"]


@dataclass(frozen=True, slots=True)
class FeatureFinding:
    """What a window detector says about one feature.

    `score` has the unit of the finding's own score; `statistic` and `p_value` are the textbook ones, the first None
    where it is not defined. `effect` is the shift of the mean in reference standard deviations for numbers (signed) and
    the total variation distance in [0, 1] for categories, with its 95 % interval.
    """

    name: str
    score: float
    statistic: float | None
    p_value: float
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    fired: bool = False

    def __post_init__(self) -> None:
        _require_finite(self.score)


@dataclass(frozen=True, slots=True)
class Window:
    """The rows a finding is about: the event times of the first and the last, and how many."""

    from_ns: int
    to_ns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict. `fired` is `score > threshold`, both finite, high is bad, for every detector.

    A detector fills in what it knows of the rows; the service that runs it says where they came from (`at`). `features`
    is sorted worst first. `payload_id` is the event's id, `key` the payload log's, `row` the index in the request.
    """

    kind: DetectorKind
    method: str
    score: float
    threshold: float
    time_ns: int
    window: Window | None = None
    p_value: float | None = None
    statistic: float | None = None
    features: tuple[FeatureFinding, ...] = ()
    payload_id: str | None = None
    key: str | None = None
    row: int | None = None
    assumption: str = ""
    why: str = ""
    detector: str = ""
    namespace: str = ""
    name: str = ""
    component: str = "predictor"
    endpoint: str = "default"
    version: str | None = None
    segment: str | None = None
    id: str = ""

    def __post_init__(self) -> None:
        _require_finite(self.score, self.threshold)

    @property
    def fired(self) -> bool:
        """Whether the score is above the threshold."""
        return self.score > self.threshold

    def at(self, stream: Stream, detector: str, rule: str, last_row: tuple[str, int] = ("", 0)) -> Finding:
        """Return the finding of a stream's detector, with an id that the same rows under the same rule always give.

        `rule` is a text that changes whenever the detector would judge differently. `last_row` is the key and the index
        of the window's last row: where many rows have one time, the times alone do not tell windows apart.
        """
        window = self.window
        place = (window.from_ns, window.to_ns, window.rows, *last_row) if window else (self.key, self.row)
        text = "\x00".join(map(str, (*stream, detector, rule, self.segment, self.time_ns, *place)))
        return replace(
            self,
            detector=detector,
            namespace=stream.namespace,
            name=stream.name,
            component=stream.component,
            endpoint=stream.endpoint,
            id=blake2b(text.encode(), digest_size=12).hexdigest(),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON-ready values, under the names of the public contract."""
        # Not dataclasses.asdict: it copies every value deeply, a sixth of the cost of judging wide rows.
        named = _values(self)
        named["features"] = tuple(map(_values, self.features))
        named["time"] = format_time(named.pop("time_ns"))
        named["fired"] = self.fired
        if self.window is not None:
            named["window"] = {
                "from": format_time(self.window.from_ns),
                "to": format_time(self.window.to_ns),
                "rows": self.window.rows,
            }
        return named

    @classmethod
    def from_dict(cls, named: Mapping[str, Any]) -> Self:
        """Return the finding that `as_dict` gave."""
        window = named["window"]
        return cls(
            **{key: value for key, value in named.items() if key not in ("time", "fired", "window", "features")},
            time_ns=parse_time(named["time"]),
            window=window and Window(parse_time(window["from"]), parse_time(window["to"]), window["rows"]),
            features=tuple(FeatureFinding(**feature) for feature in named["features"]),
        )


def _values(record: Finding | FeatureFinding) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _require_finite(*numbers: float) -> None:
    """JSON has neither infinities nor NaN, and a verdict that cannot be written down cannot be kept."""
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"a score and its threshold are finite numbers, not {' and '.join(map(str, numbers))}")
