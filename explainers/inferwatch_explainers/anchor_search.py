"""The search for anchors: rules that alone make a model predict the same (Ribeiro, Singh & Guestrin, AAAI 2018).

Rules grow by one condition a round, from the four best of the round before, as in a beam search; each round is one call
for all candidates of all explained inputs, eight at most. Candidates whose upper confidence bound reaches the precision
wanted are put to the test in the next round's call, on inputs of their own: what is stated is measured there, so the
choice among many candidates does not flatter it. Bounds are those of the Kullback-Leibler divergence (Garivier & Cappe,
COLT 2011), at 95 % for all rules that an input was tested for together.

What rules are made of, and what keeps to them, is for the `Space` of each explained input to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, PredictorTimeout
from inferwatch.explanation import Anchors, Span, Target
from inferwatch_explainers.classes import check_classes, classes
from inferwatch_explainers.conditions import Rule
from inferwatch_explainers.distinct import distinct
from inferwatch_explainers.readout import Readout, checked_outputs

PRECISION = 0.95
"""What rules aim at."""

_BEAM = 4
_CONFIRMED_AT_ONCE = 3
_CONFIRMING = 600
_RISK = 0.05
_MOST_ROUNDS = 8

Inputs = NDArray[Any]
"""Rows (r, d), or texts (r,)."""


class Sample(NamedTuple):
    """Perturbed inputs, and the places of those that each rule is judged by."""

    inputs: Inputs
    judged: Mapping[Rule, slice | NDArray[np.intp]]


class Space(Protocol):
    """What rules about one explained input are made of: `conditions`, so many, each known by its place."""

    conditions: int

    def explained(self) -> Inputs:
        """Return the explained input, alone."""
        ...

    def keeping(self, rule: Rule, count: int) -> Inputs:
        """Return so many perturbed inputs that keep to a rule."""
        ...

    def samples(self, candidates: Mapping[Rule, Rule], most: int) -> list[Sample]:
        """Return at most so many perturbed inputs to judge candidates by, given with the rule that each grew from."""
        ...

    def coverage(self, rule: Rule) -> float:
        """Return the share of what there is that keeps to a rule."""
        ...

    def written(self, rule: Rule) -> tuple[str, ...]:
        """Return a rule's conditions as texts."""
        ...

    def positions(self, rule: Rule) -> tuple[Span, ...] | None:
        """Return where in the explained text each condition stands; None where that is no text."""
        ...


class Effort(NamedTuple):
    """What a search may spend: perturbed inputs an explained one, and seconds by a clock."""

    samples: int
    deadline_s: float | None
    clock: Callable[[], float]


def anchors(
    spaces: Sequence[Space],
    predict: Callable[[Any], NDArray[Any]],
    effort: Effort,
    *,
    method: str,
    features: tuple[str, ...],
    target: Target,
) -> Anchors:
    """Return a rule for each explained input.

    Raises `InvalidOption` for a predictor that answers no classes or a `target` that is not the predicted class,
    `PredictorError` for a predictor that fails, and `PredictorTimeout` when it was too slow for the first round.
    """
    started = effort.clock()
    searches = [_Search(space, effort.samples) for space in spaces]
    rounds = _Rounds(predict, effort, started)
    readout = rounds.run(searches, target)
    found = [(search, *search.best()) for search in searches]
    positions = [search.space.positions(rule) for search, rule, _ in found]
    return Anchors(
        method=method,
        features=features,
        anchors=tuple(search.space.written(rule) for search, rule, _ in found),
        precision=np.array([tally.share for _, _, tally in found]),
        precision_low=np.array([tally.low(search.tested) for search, _, tally in found]),
        coverage=np.array([search.space.coverage(rule) for search, rule, _ in found]),
        prediction=readout.read(np.concatenate([search.output for search in searches])),
        target=readout.targets,
        predictor_calls=rounds.calls,
        predictor_rows=rounds.asked,
        elapsed_s=effort.clock() - started,
        deadline_reached=rounds.out_of_time,
        positions=tuple(each for each in positions if each is not None),
    )


_Asking = Generator[Inputs, NDArray[Any], None]


class _Rounds:
    """Asks for all searches together until each is over, or time is up."""

    def __init__(self, predict: Callable[[Any], NDArray[Any]], effort: Effort, started: float) -> None:
        self._predict = predict
        self._clock = effort.clock
        self._ends = None if effort.deadline_s is None else started + effort.deadline_s
        self._slowest_s = 0.0
        self.calls = self.asked = 0
        self.out_of_time = False

    def run(self, searches: Sequence[_Search], target: Target) -> Readout:
        """Return what is read of the outputs of the explained inputs, once the searches have ended."""
        running = {search: search.questions() for search in searches}
        questions = {search: next(asking) for search, asking in running.items()}
        outputs = self._outputs(list(questions.values()))
        readout = _readout(outputs, target)
        while questions := _answered(running, dict(zip(questions, outputs, strict=True))):
            self.out_of_time = self._ends is not None and self._clock() + self._slowest_s > self._ends
            if self.out_of_time:
                break
            try:
                outputs = self._outputs(list(questions.values()))
            except PredictorTimeout:
                self.out_of_time = True
                break
        return readout

    def _outputs(self, questions: list[Inputs]) -> list[NDArray[Any]]:
        """Return the outputs for each question, from one call that holds every input once."""
        begun = self._clock()
        self.calls += 1
        once, places = distinct(np.concatenate(questions))
        outputs = checked_outputs(self._predict(once), len(once))[places]
        self.asked += len(once)
        self._slowest_s = max(self._slowest_s, self._clock() - begun)
        return np.split(outputs, np.cumsum([len(question) for question in questions])[:-1])


def _answered(running: Mapping[_Search, _Asking], outputs: Mapping[_Search, NDArray[Any]]) -> dict[_Search, Inputs]:
    """Give every search its outputs and return the questions of those that go on."""
    left: dict[_Search, Inputs] = {}
    for search, part in outputs.items():
        try:
            left[search] = running[search].send(part)
        except StopIteration:
            continue
    return left


def _readout(outputs: Sequence[NDArray[Any]], target: Target) -> Readout:
    """Return the readout of the explained inputs, the first of each question."""
    check_classes(np.concatenate(outputs))
    readout = Readout.of(np.concatenate([part[:1] for part in outputs]))
    if target is not None and any(target != predicted for predicted in readout.targets):
        predicted = next(each for each in readout.targets if each != target)
        raise InvalidOption(f"anchors explain the predicted class, which is {predicted!r} and not {target!r}")
    return readout


@dataclass
class _Tally:
    """How many of so many inputs were predicted alike."""

    inputs: int = 0
    alike: int = 0

    @property
    def share(self) -> float:
        return self.alike / self.inputs if self.inputs else 0.0

    def add(self, alike: NDArray[np.bool_]) -> None:
        self.inputs += len(alike)
        self.alike += int(alike.sum())

    def low(self, tests: int) -> float:
        """Return the lower bound at 95 % for as many tests together."""
        return _bound(self.share, math.log(max(1, tests) / _RISK) / self.inputs, upper=False) if self.inputs else 0.0

    def high(self) -> float:
        return _bound(self.share, math.log(1 / _RISK) / self.inputs, upper=True) if self.inputs else 1.0


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
    """The search for one input's rule, as questions that somebody answers: the explained input first, then others."""

    def __init__(self, space: Space, samples: int) -> None:
        self.space = space
        self._left = samples
        self._tested: dict[Rule, _Tally] = {}
        self.output: NDArray[Any] = np.empty(0)

    @property
    def tested(self) -> int:
        """How many rules were put to the test."""
        return len(self._tested)

    def questions(self) -> _Asking:
        """Yield the inputs of each round and take their outputs, until a rule holds or nothing is left to try."""
        grown = self._grown([frozenset()])
        tests: list[Rule] = [frozenset()]
        for round_ in range(_MOST_ROUNDS):
            last = round_ == _MOST_ROUNDS - 1
            candidates = {rule: _Tally() for rule in grown}
            plan = self._plan(candidates, {} if last else grown, tests, _MOST_ROUNDS - round_)
            if not plan:
                return
            outputs = yield np.concatenate([self.space.explained(), *(sample.inputs for _, sample in plan)])
            self.output = outputs[:1]
            _count(plan, classes(outputs[1:]) == classes(outputs[:1]))
            if any(tally.share >= PRECISION for tally in self._tested.values()):
                return
            tests = [rule for rule in self._promising(candidates) if rule not in self._tested]
            beam = sorted(
                candidates, key=lambda rule: (candidates[rule].share, self.space.coverage(rule)), reverse=True
            )
            if not tests and (last or not any(len(rule) < self.space.conditions for rule in beam[:_BEAM])):
                tests = [rule for rule in beam[:1] if rule not in self._tested]
            grown = self._grown(beam[:_BEAM])

    def best(self) -> tuple[Rule, _Tally]:
        """Return the widest of the rules found precise enough, or where none was, the most precise one."""
        precise = [rule for rule, tally in self._tested.items() if tally.share >= PRECISION]
        if precise:
            chosen = max(precise, key=self.space.coverage)
        else:
            chosen = max(self._tested, key=lambda rule: self._tested[rule].share)
        return chosen, self._tested[chosen]

    def _grown(self, rules: Sequence[Rule]) -> dict[Rule, Rule]:
        """Return every rule with one condition more, each once, with one that it grew from."""
        places = range(self.space.conditions)
        return {rule | {place}: rule for rule in rules for place in places if place not in rule}

    def _promising(self, candidates: Mapping[Rule, _Tally]) -> list[Rule]:
        """Return the widest of the candidates that may be precise enough."""
        good = [rule for rule, tally in candidates.items() if tally.share >= 0.9 and tally.high() >= PRECISION]
        return sorted(good, key=self.space.coverage, reverse=True)[:_CONFIRMED_AT_ONCE]

    def _plan(
        self, candidates: dict[Rule, _Tally], grown: Mapping[Rule, Rule], tests: Sequence[Rule], rounds: int
    ) -> list[tuple[dict[Rule, _Tally], Sample]]:
        """Return what to sample next, and the tallies that it adds to, so that inputs last the rounds."""
        spare = self._left // 2 if grown else self._left  # tests leave something to go on with
        testing = min(_CONFIRMING, spare // max(1, len(tests)))
        plan = [
            (self._tested, Sample(self.space.keeping(rule, testing), {rule: slice(None)})) for rule in tests if testing
        ]
        self._left -= testing * len(plan)
        explored = self.space.samples(grown, self._left // rounds) if grown else []
        self._left -= sum(len(sample.inputs) for sample in explored)
        return plan + [(candidates, sample) for sample in explored]


def _count(plan: Sequence[tuple[dict[Rule, _Tally], Sample]], alike: NDArray[np.bool_]) -> None:
    """Add what was predicted alike, of all samples one behind the other, to the tallies of the rules."""
    start = 0
    for tallies, sample in plan:
        part = alike[start : start + len(sample.inputs)]
        start += len(part)
        for rule, places in sample.judged.items():
            tallies.setdefault(rule, _Tally()).add(part[places])
