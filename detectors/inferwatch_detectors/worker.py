"""Runs the configured detectors over the rows of the journal, one `StreamJudge` a stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from inferwatch.errors import InvalidReference
from inferwatch.events import Service, Stream
from inferwatch.finding import Finding
from inferwatch.pipeline import Item
from inferwatch.reference import Reference
from inferwatch.rows import Rows
from inferwatch.settings import DriftSettings, ModelSettings, OutlierSettings, configured_for
from inferwatch.status import DetectorStatus
from inferwatch_detectors.fleet import Fleet
from inferwatch_detectors.post import RunObserver
from inferwatch_detectors.stream_judge import Key, StreamJudge, part_of

logger = logging.getLogger(__name__)

_NAME_PARTS = 8

MOST_STREAMS = 100
"""Streams (component and endpoint) of one model that are judged; what a sender invents beyond is only stored."""


MOST_UNNAMED = 2_000
"""Streams judged in all before further models that only `*` names are left out."""

History = Callable[[Stream, int], Sequence[Rows]]
"""Finds so many of the rows that a stream has logged before anything is judged of it, the newest ones."""


class Place(NamedTuple):
    """What is judged for itself: a stream, and of a model whose references go by version, one of its versions."""

    stream: Stream
    version: str = ""


@dataclass(frozen=True, slots=True)
class MonitoredModel:
    """A configured model with the reference that it was given, outputs included; None where it is made of live rows.

    `by_version` holds those of the model's versions, where there are several.
    """

    settings: ModelSettings
    given: Reference | None
    by_version: Mapping[str, Reference] = field(default_factory=dict)

    @property
    def service(self) -> Service:
        """The served model."""
        return Service(self.settings.namespace, self.settings.name)

    @property
    def reference(self) -> Reference:
        """What the model's inputs are compared with. Raises `InvalidReference` where that is not known beforehand."""
        if (found := self.known) is None:
            raise InvalidReference("no reference of inputs is given")
        return found

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the model's inputs in their order, of the reference or as configured; none where rows tell."""
        known = self.known
        return known.schema.names if known is not None else tuple(feature.name for feature in self.settings.features)

    @property
    def known(self) -> Reference | None:
        """What the model's inputs are compared with, of its last version; None where live rows have to tell."""
        newest = list(self.by_version.values())[-1:]
        return part_of(newest[0] if newest else self.given, self.settings, "inputs")


class Worker:
    """Judges the items of a pipeline. Not thread-safe: one pipeline owns it."""

    def __init__(
        self,
        models: Sequence[MonitoredModel],
        observer: RunObserver | None = None,
        history: History | None = None,
        *,
        false_discovery_rate: float | None = None,
    ) -> None:
        self._fleet = None if false_discovery_rate is None else Fleet(false_discovery_rate, _questions(models))
        self._models = {model.service: model for model in models}
        self._observer = observer
        self._history = history
        self._judges: dict[Place, StreamJudge] = {}
        self._refused: set[Service] = set()
        self._dirty: set[Place] = set()

    def judge(self, items: Sequence[Item], /) -> list[Finding]:
        """Return the findings of the items, stream by stream, each in the order of the journal.

        Where an endpoint is judged against another one, the order is the journal's over both; where models share a
        budget, over all.
        """
        findings: list[Finding] = []
        for place, group in self._grouped([item for item in items if item.role is not None or self._attributed(item)]):
            judge = self._judge_of(place, group[0].time_ns)
            if judge is not None:
                self._dirty.add(place)
                findings.extend(judge.judge(group))
        return findings

    def _grouped(self, items: Sequence[Item]) -> list[tuple[Place, list[Item]]]:
        if self._fleet is not None:
            return [(self._place(item), [item]) for item in items]
        groups: list[tuple[Place, list[Item]]] = []
        last: dict[Place | Service, tuple[Place, list[Item]]] = {}
        judged_with: dict[Place, Place | Service] = {}
        for item in items:
            place = self._place(item)
            together = judged_with.get(place) or judged_with.setdefault(place, self._judged_with(place))
            known = last.get(together)
            if known is None or known[0] != place:
                known = last[together] = (place, [])
                groups.append(known)
            known[1].append(item)
        return groups

    def _judged_with(self, place: Place) -> Place | Service:
        """Return what shares an order: the whole service where its endpoints are compared."""
        model = configured_for(self._models, place.stream.service)
        return place.stream.service if model is not None and _compares(model.settings) else place

    def _attributed(self, item: Item) -> bool:
        """Return whether anything is judged of the explanations of the item's model."""
        model = configured_for(self._models, item.stream.service)
        return model is not None and any(rule.on == "explanations" for rule in model.settings.detectors)

    def _place(self, item: Item) -> Place:
        model = configured_for(self._models, item.stream.service)
        version = item.event.extensions.get("modelversion", "") if model is not None and model.by_version else ""
        return Place(item.stream, version)

    def accept(self, service: Service, reference: bytes, /) -> None:
        """Compare the inputs of a service's streams with a saved reference from now on."""
        for place, judge in self._judges.items():
            if place.stream.service == service:
                judge.accept(Reference.parse(reference))
                self._dirty.add(place)

    def dump(self) -> dict[str, bytes | None]:
        """Return the states of the streams that saw traffic since the last dump."""
        states: dict[str, bytes | None] = {}
        for place in self._dirty:
            states.update({_name(place, key): data for key, data in self._judges[place].dump().items()})
        self._dirty.clear()
        return states if self._fleet is None else states | self._fleet.dump()

    def load(self, states: Mapping[str, bytes], /) -> None:
        """Forget everything and continue from an earlier dump."""
        self._judges.clear()
        self._dirty.clear()
        if self._fleet is not None:
            self._fleet.load(states)
        parts: dict[Place, dict[Key, bytes]] = {}
        for name, data in states.items():
            words = orjson.loads(name)
            if len(words) == _NAME_PARTS:  # else the fleet's, or of an earlier version, no longer read
                version, feed, segment, part = words[4:]
                parts.setdefault(Place(Stream(*words[:4]), version), {})[feed, segment, part] = data
        for place, kept in parts.items():
            judge = self._judge_of(place, restoring=True)
            if judge is not None:
                judge.load(kept)

    def statuses(self) -> list[DetectorStatus]:
        """Return where every detector of every stream stands; of several versions, the one whose rows came last."""
        newest: dict[Stream, StreamJudge] = {}
        for place, judge in self._judges.items():
            known = newest.get(place.stream)
            if known is None or judge.last_ns >= known.last_ns:
                newest[place.stream] = judge
        return [status for judge in newest.values() for status in judge.statuses()]

    def _judge_of(self, place: Place, since_ns: int | None = None, *, restoring: bool = False) -> StreamJudge | None:
        judge = self._judges.get(place)
        if judge is not None:
            return judge
        stream, version = place
        model = configured_for(self._models, stream.service)
        if model is None or not any(rule.component == stream.component for rule in model.settings.detectors):
            return None
        given = model.by_version.get(version) if model.by_version else model.given
        if (model.by_version and given is None) or self._too_many(stream.service):
            return None

        def other(endpoint: str) -> StreamJudge | None:
            return self._judges.get(Place(stream._replace(endpoint=endpoint), version))

        judge = StreamJudge(
            stream,
            model.settings,
            given,
            self._observer,
            fleet=self._fleet,
            version=version or None,
            other=other,
            restoring=restoring,
        )
        logged = model.settings.logged
        if since_ns is not None and self._history is not None and logged is not None and logged.last is not None:
            judge.learn(self._history(stream, logged.last), since_ns)
        self._judges[place] = judge
        return judge

    def _too_many(self, service: Service) -> bool:
        streams = sum(known.stream.service == service for known in self._judges)
        named = service in self._models
        if streams < MOST_STREAMS and (named or streams or len(self._judges) < MOST_UNNAMED):
            return False
        if service not in self._refused:
            self._refused.add(service)
            logger.warning("%s has more than %d streams; further ones are not judged", service, MOST_STREAMS)
        return True


def _questions(models: Sequence[MonitoredModel]) -> int:
    """Return how many detectors of windows are configured for models that have a name."""
    named = [model.settings for model in models if "*" not in model.service]
    return sum(not isinstance(rule, OutlierSettings) for settings in named for rule in settings.detectors)


def _compares(model: ModelSettings) -> bool:
    return any(isinstance(rule, DriftSettings) and rule.against is not None for rule in model.detectors)


def _name(place: Place, key: Key) -> str:
    return orjson.dumps([*place.stream, place.version, *key]).decode()
