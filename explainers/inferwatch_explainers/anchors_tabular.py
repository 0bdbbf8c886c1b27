"""Anchors: rules that alone make a model predict the same (Ribeiro, Singh & Guestrin, AAAI 2018)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, PredictorTimeout
from inferwatch.explanation import Anchors, Target
from inferwatch.protocols import Predict
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_explainers.arguments import check_options, checked_rows, shuffled_background
from inferwatch_explainers.classes import check_classes, classes
from inferwatch_explainers.conditions import Condition, Rule, bounds, conditions_of, met, written
from inferwatch_explainers.readout import Readout, checked_outputs

PRECISION = 0.95
"""What rules aim at."""

DEFAULT_SAMPLES = 20_000
"""Perturbed rows an explained row, at most."""

_BEAM = 4
_CONFIRMED_AT_ONCE = 3
_CONFIRMING_ROWS = 600
_RISK = 0.05
_MOST_ROUNDS = 8


class AnchorsTabular:
    """Explains predicted classes by rules such as `age > 37 and work = Private`, short and widely valid ones first.

    `predict` takes rows (r, d) and answers labels, probabilities (r, k), or one number in [0, 1], the probability of
    the second of two classes. `reference` (m, d) is what rows are perturbed from: a perturbed row is one of the
    reference, in which each feature that breaks the rule takes the value of a reference row that does not. Rules grow
    by one condition a round, from the four best of the round before, as in a beam search; each round is one call for
    all candidates of all explained rows, eight at most. Candidates whose upper confidence bound reaches the precision
    wanted are put to the test in the next round's call, on rows of their own: what is stated is measured there, so
    the choice among many candidates does not flatter it. Bounds are those of the Kullback-Leibler divergence
    (Garivier & Cappe, COLT 2011), at 95 % for all rules that a row was tested for together.

    `samples` bounds the perturbed rows an explained row; with a deadline the best rule so far is the answer.

    >>> reference = np.random.default_rng(0).uniform(size=(500, 3))
    >>> explainer = AnchorsTabular(lambda rows: (rows[:, 1] > 0.2).astype(int), reference)
    >>> explainer.explain(np.array([[0.5, 0.9, 0.5]])).anchors
    (('x1 > 0.7642',),)
    """

    method = "anchors_tabular"

    def __init__(
        self,
        predict: Predict,
        reference: Matrix,
        *,
        schema: Schema | None = None,
        samples: int | None = None,
        deadline_s: float | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_options(samples, deadline_s)
        self._predict = predict
        self._reference = shuffled_background(reference, seed)
        names = (f"x{place}" for place in range(self._reference.shape[1]))
        self._schema = schema or Schema(tuple(Feature(name, "numeric") for name in names))
        self._samples = DEFAULT_SAMPLES if samples is None else samples
        self._deadline_s = deadline_s
        self._seed = seed
        self._clock = clock

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Anchors:
        """Return a rule for each row (n, d).

        Raises `InvalidRows` for another width, no rows or values that are not finite, `InvalidOption` for a predictor
        that answers no classes or a `target` that is not the predicted class, `PredictorError` for a predictor that
        fails, and `PredictorTimeout` when it was too slow for the first round.
        """
        started = self._clock()
        rows = checked_rows(rows, self._reference.shape[1])
        searches = [
            _Search(row, self._reference, self._schema, self._samples, np.random.default_rng([self._seed, place]))
            for place, row in enumerate(rows)
        ]
        calls, asked, out_of_time, readout = self._rounds(searches, target, started)
        found = [search.best() for search in searches]
        return Anchors(
            method=self.method,
            features=self._schema.names,
            anchors=tuple(search.text(rule) for search, (rule, _) in zip(searches, found, strict=True)),
            precision=np.array([tally.share for _, tally in found]),
            precision_low=np.array(
                [tally.low(search.tested) for search, (_, tally) in zip(searches, found, strict=True)]
            ),
            coverage=np.array([search.coverage(rule) for search, (rule, _) in zip(searches, found, strict=True)]),
            prediction=readout.read(np.concatenate([search.output for search in searches])),
            target=readout.targets,
            predictor_calls=calls,
            predictor_rows=asked,
            elapsed_s=self._clock() - started,
            deadline_reached=out_of_time,
        )

    def _rounds(self, searches: Sequence[_Search], target: Target, started: float) -> tuple[int, int, bool, Readout]:
        """Ask until every search is over or time is up; return calls, rows, whether time was up, and the readout."""
        running = {search: search.questions() for search in searches}
        questions = {search: next(asking) for search, asking in running.items()}
        readout: Readout | None = None
        calls = asked = 0
        ends = None if self._deadline_s is None else started + self._deadline_s
        slowest_s = 0.0
        while questions:
            begun = self._clock()
            if readout is not None and ends is not None and begun + slowest_s > ends:
                return calls, asked, True, readout
            distinct, inverse = np.unique(np.concatenate(list(questions.values())), axis=0, return_inverse=True)
            try:
                outputs = checked_outputs(self._predict(distinct), len(distinct))[inverse.reshape(-1)]
            except PredictorTimeout:
                if readout is None:
                    raise
                return calls + 1, asked, True, readout
            calls, asked = calls + 1, asked + len(distinct)
            slowest_s = max(slowest_s, self._clock() - begun)
            if readout is None:
                readout = _readout(outputs, [len(question) for question in questions.values()], target)
            questions = _answered(running, questions, outputs)
        if readout is None:
            raise AssertionError("unreachable: there is a row to explain, so a question was asked")
        return calls, asked, False, readout


_Asking = Generator[Matrix, NDArray[Any], None]


def _answered(
    running: Mapping[_Search, _Asking], questions: Mapping[_Search, Matrix], outputs: NDArray[Any]
) -> dict[_Search, Matrix]:
    """Give every search its outputs and return the questions of those that go on."""
    left: dict[_Search, Matrix] = {}
    start = 0
    for search, question in questions.items():
        part = outputs[start : start + len(question)]
        start += len(question)
        try:
            left[search] = running[search].send(part)
        except StopIteration:
            continue
    return left


def _readout(outputs: NDArray[Any], sizes: Sequence[int], target: Target) -> Readout:
    """Return the readout of the explained rows, the first of each question."""
    check_classes(outputs)
    readout = Readout.of(outputs[np.concatenate([[0], np.cumsum(sizes)[:-1]])])
    if target is not None and any(target != predicted for predicted in readout.targets):
        predicted = next(each for each in readout.targets if each != target)
        raise InvalidOption(f"anchors explain the predicted class, which is {predicted!r} and not {target!r}")
    return readout


@dataclass
class _Tally:
    """How many of so many rows were predicted alike."""

    rows: int = 0
    alike: int = 0

    @property
    def share(self) -> float:
        return self.alike / self.rows if self.rows else 0.0

    def add(self, alike: NDArray[np.bool_]) -> None:
        self.rows += len(alike)
        self.alike += int(alike.sum())

    def low(self, tests: int) -> float:
        """Return the lower bound at 95 % for as many tests together."""
        return _bound(self.share, math.log(max(1, tests) / _RISK) / self.rows, upper=False) if self.rows else 0.0

    def high(self) -> float:
        return _bound(self.share, math.log(1 / _RISK) / self.rows, upper=True) if self.rows else 1.0


def _bound(share: float, level: float, *, upper: bool) -> float:
    """Return the outermost q whose Kullback-Leibler divergence from the share is at most the level, by bisection."""
    inside, outside = share, 1.0 if upper else 0.0
    for _ in range(40):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if _divergence(share, middle) <= level else (inside, middle)
    return inside


def _divergence(p: float, q: float) -> float:
    total = 0.0
    for a, b in ((p, q), (1 - p, 1 - q)):
        if a > 0:
            total += a * math.log(a / b) if b > 0 else math.inf
    return total


class _Search:
    """The search for one row's rule, as questions that somebody answers: rows to predict, the explained one first."""

    def __init__(
        self, row: Matrix, reference: Matrix, schema: Schema, samples: int, generator: np.random.Generator
    ) -> None:
        self._row, self._reference, self._schema = row, reference, schema
        self._conditions: list[Condition] = conditions_of(row, reference, schema)
        self._met = met(self._conditions, reference)
        self._left = samples
        self._generator = generator
        self._tested: dict[Rule, _Tally] = {}
        self.output: NDArray[Any] = np.empty(0)

    @property
    def tested(self) -> int:
        """How many rules were put to the test."""
        return len(self._tested)

    def questions(self) -> _Asking:
        """Yield the rows of each round and take their outputs, until a rule holds or there is nothing left to try."""
        grown = self._grown([frozenset()])
        candidates: dict[Rule, _Tally] = {rule: _Tally() for rule in grown}
        tests: list[Rule] = [frozenset()]
        for round_ in range(_MOST_ROUNDS):
            last = round_ == _MOST_ROUNDS - 1
            plan = self._plan({} if last else candidates, tests, _MOST_ROUNDS - round_)
            if not plan:
                return
            rows = [self._perturbed(rule, count) for rule, count, _ in plan]
            outputs = yield np.concatenate([self._row[None], *rows])
            alike = classes(outputs[1:]) == classes(outputs[:1])
            self.output = outputs[:1]
            start = 0
            for rule, count, test in plan:
                tally = self._tested.setdefault(rule, _Tally()) if test else candidates[rule]
                tally.add(alike[start : start + count])
                start += count
            if any(tally.share >= PRECISION for tally in self._tested.values()):
                return
            tests = [rule for rule in self._promising(candidates) if rule not in self._tested]
            beam = sorted(candidates, key=lambda rule: (candidates[rule].share, self.coverage(rule)), reverse=True)
            if not tests and (last or not any(len(rule) < len(self._conditions) for rule in beam[:_BEAM])):
                tests = [rule for rule in beam[:1] if rule not in self._tested]
            candidates = {rule: _Tally() for rule in self._grown(beam[:_BEAM])}

    def best(self) -> tuple[Rule, _Tally]:
        """Return the widest of the rules found precise enough, or where none was, the most precise one."""
        precise = [rule for rule, tally in self._tested.items() if tally.share >= PRECISION]
        if precise:
            chosen = max(precise, key=self.coverage)
        else:
            chosen = max(self._tested, key=lambda rule: self._tested[rule].share)
        return chosen, self._tested[chosen]

    def coverage(self, rule: Rule) -> float:
        """Return the share of the reference that keeps to the rule."""
        return float(self._met[:, sorted(rule)].all(axis=1).mean())

    def text(self, rule: Rule) -> tuple[str, ...]:
        """Return the rule's conditions as texts."""
        return written(self._conditions, rule, self._schema.features)

    def _grown(self, rules: Sequence[Rule]) -> list[Rule]:
        """Return every rule with one condition more, each once."""
        more = {rule | {place}: None for rule in rules for place in range(len(self._conditions)) if place not in rule}
        return list(more)

    def _promising(self, candidates: Mapping[Rule, _Tally]) -> list[Rule]:
        """Return the widest of the candidates that may be precise enough."""
        good = [rule for rule, tally in candidates.items() if tally.high() >= PRECISION and tally.share >= 0.9]
        return sorted(good, key=self.coverage, reverse=True)[:_CONFIRMED_AT_ONCE]

    def _plan(
        self, candidates: Mapping[Rule, _Tally], tests: Sequence[Rule], rounds: int
    ) -> list[tuple[Rule, int, bool]]:
        """Return what to sample next, so that rows last the rounds: rule, rows, and whether that is its test."""
        testing = min(_CONFIRMING_ROWS, self._left // max(1, len(tests)))
        plan = [(rule, testing, True) for rule in tests if testing]
        self._left -= testing * len(plan)
        exploring = min(100, self._left // rounds // len(candidates)) if candidates else 0
        plan += [(rule, exploring, False) for rule in candidates if exploring]
        self._left -= exploring * len(candidates)
        return plan

    def _perturbed(self, rule: Rule, count: int) -> Matrix:
        """Return rows of the reference that keep to the rule, what breaks it replaced by what does not."""
        rows = self._reference[self._generator.integers(len(self._reference), size=count)].copy()
        for feature, (low, high) in bounds(self._conditions, rule).items():
            values = self._reference[:, feature]
            allowed = np.append(values[(values > low) & (values <= high)], self._row[feature])
            broken = ~((rows[:, feature] > low) & (rows[:, feature] <= high))
            rows[broken, feature] = self._generator.choice(allowed, int(broken.sum()))
        return rows
