"""One budget over all models: of a day's alarms at most a stated share is false, on average.

Every detector of windows, of each stream and segment, is one question a UTC day of event time: did anything change? Its
windows give evidence by the e-value k p^(k - 1) of their p-values, k = 0.1, of which each adds a part; the parts of a
day sum up to 1 at most, so that the sum's expectation is at most 1 where nothing changed, however windows and models
depend on each other. Half of them goes by the window's place in the day, 1 / (i (i + 1)), the other half by the time it
spans. The first alarm of a question needs evidence of 1 / (rate w (D + 1)), with D other questions that alarmed on that
day before it and a weight w of each, which sum up to 1: the e-LOND of Z. Xu and A. Ramdas, "Online multiple testing
with e-values" (AISTATS 2024), which keeps the false discovery rate under any dependence. A window that the model's own
promise does not let alarm gives none, so that both promises hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import orjson

from inferwatch.finding import Finding
from inferwatch.promise import NS_PER_DAY
from inferwatch.rows import Batch

_POWER = 0.1
_NEVER = 1e3
"""Above every score."""

_DAYS = 31
"""Days that are remembered behind the newest; a window that is older counts for the oldest of them."""

Question = str
"""What has evidence of its own: a detector of a stream, of a version and a segment."""


@dataclass(slots=True)
class _Evidence:
    """What the windows of one question gave on one day: `spent` of the parts, in [0, 1], and the e-value by now."""

    weight: float
    windows: int = 0
    spent: float = 0.0
    value: float = 0.0
    alarmed: bool = False


@dataclass(slots=True)
class _Day:
    """The questions of one day, of which the first `expected` have even weights."""

    expected: int
    asked: dict[Question, _Evidence] = field(default_factory=dict)
    alarmed: int = 0
    saved: bool = False

    def of(self, question: Question) -> _Evidence:
        if question not in self.asked:
            late = len(self.asked) - self.expected + 1
            weight = 1 / (2 * self.expected) if late < 1 else 1 / (2 * late * (late + 1))
            self.asked[question] = _Evidence(weight)
        return self.asked[question]


class Fleet:
    """Decides which windows of all models alarm. Findings have to come in the order of the log.

    `rate` in (0, 1) is the share of a day's alarms that may be false, `expected` how many questions there are at least.
    """

    def __init__(self, rate: float, expected: int) -> None:
        self.rate = rate
        self._expected = max(1, expected)
        self._days: dict[int, _Day] = {}
        self._gone: list[int] = []

    def decided(self, finding: Finding, window: Batch) -> Finding:
        """Return the finding with its threshold among all; one whose score is no -log10 p stays as it is."""
        if finding.p_value is None or not math.isclose(finding.p_value, 10**-finding.score, rel_tol=1e-6):
            return finding
        day = self._day(finding.time_ns // NS_PER_DAY)
        day.saved = False
        evidence = day.of(_question(finding))
        part = self._part(evidence, window)
        threshold = finding.threshold
        if not evidence.alarmed:
            needed = 1 / (self.rate * evidence.weight * (day.alarmed + 1)) - evidence.value
            if needed > 0:
                threshold = max(threshold, _score(needed / part) if part > 0 else _NEVER)
        if finding.fired:
            evidence.value += part * _POWER * 10 ** (finding.score * (1 - _POWER))
        told = self._told(finding, threshold)
        if told.fired and not evidence.alarmed:
            evidence.alarmed, day.alarmed = True, day.alarmed + 1
        return told

    def _told(self, finding: Finding, threshold: float) -> Finding:
        said = f"of the alarms of a day over all models a share of {self.rate:g} is false at most"
        suppressed = finding.fired and finding.score <= threshold
        return replace(
            finding,
            threshold=threshold,
            features=tuple(replace(each, fired=each.score > threshold) for each in finding.features),
            assumption="; ".join(filter(None, (finding.assumption, said))),
            why=f"no alarm among all models, alone it would be: {finding.why}" if suppressed else finding.why,
        )

    def _part(self, evidence: _Evidence, window: Batch) -> float:
        """Spend the window's part of its day, and return it."""
        evidence.windows += 1
        span_ns = min(max(0, int(window.times_ns.max()) - window.since_ns), NS_PER_DAY)
        part = 0.5 / (evidence.windows * (evidence.windows + 1)) + 0.25 * span_ns / NS_PER_DAY
        part = min(part, 1 - evidence.spent)
        evidence.spent += part
        return part

    def _day(self, number: int) -> _Day:
        newest = max(self._days, default=number)
        number = max(number, newest - _DAYS)
        if number not in self._days:
            before = max((known for known in self._days if known < number), default=None)
            asked_before = 0 if before is None else len(self._days[before].asked)
            self._days[number] = _Day(max(self._expected, asked_before))
            for old in [known for known in self._days if known < number - _DAYS]:
                del self._days[old]
                self._gone.append(old)
        return self._days[number]

    def dump(self) -> dict[str, bytes | None]:
        """Return the days that changed since the last dump, by name; None for those that are gone."""
        parts: dict[str, bytes | None] = {_name(number): None for number in self._gone}
        self._gone = []
        for number, day in self._days.items():
            if not day.saved:
                asked = {key: [e.weight, e.windows, e.spent, e.value, e.alarmed] for key, e in day.asked.items()}
                parts[_name(number)] = orjson.dumps([self.rate, number, day.expected, day.alarmed, asked])
                day.saved = True
        return parts

    def load(self, states: Mapping[str, bytes]) -> None:
        """Forget everything and continue with the days of dumps, found among other states. Those of another rate go."""
        self._days, self._gone = {}, []
        for name, data in states.items():
            if name.startswith(_PREFIX):
                rate, number, expected, alarmed, asked = orjson.loads(data)
                known = {question: _Evidence(*values) for question, values in asked.items()}
                if rate == self.rate:
                    self._days[number] = _Day(expected, known, alarmed, saved=True)
                else:
                    self._gone.append(number)


_PREFIX = '["fleet",'


def _name(day: int) -> str:
    return f"{_PREFIX}{day}]"


def _question(finding: Finding) -> Question:
    place = (finding.namespace, finding.name, finding.component, finding.endpoint, finding.version, finding.segment)
    return orjson.dumps([*place, finding.detector]).decode()


def _score(value: float) -> float:
    """Return -log10 of the p-value that has this e-value."""
    return math.log10(value / _POWER) / (1 - _POWER)
