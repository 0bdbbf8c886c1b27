"""Runs the configured detectors over the rows of the journal, one `StreamJudge` a stream."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from inferwatch.errors import InvalidReference
from inferwatch.events import Service, Stream
from inferwatch.finding import Finding
from inferwatch.pipeline import Item
from inferwatch.reference import Reference
from inferwatch.settings import DriftSettings, ModelSettings
from inferwatch.status import DetectorStatus
from inferwatch_detectors.post import RunObserver
from inferwatch_detectors.stream_judge import Key, StreamJudge, part_of

logger = logging.getLogger(__name__)

_NAME_PARTS = 7

MOST_STREAMS = 100
"""Streams (component and endpoint) of one model that are judged; what a sender invents beyond is only stored."""


@dataclass(frozen=True, slots=True)
class MonitoredModel:
    """A configured model with the reference that it was given, outputs included."""

    settings: ModelSettings
    given: Reference

    @property
    def service(self) -> Service:
        """The served model."""
        return Service(self.settings.namespace, self.settings.name)

    @property
    def reference(self) -> Reference:
        """What the model's inputs are compared with. Raises `InvalidReference` where it has outputs alone."""
        found = part_of(self.given, self.settings, "inputs")
        if found is None:
            raise InvalidReference("the reference has outputs alone, and no inputs")
        return found


class Worker:
    """Judges the items of a pipeline. Not thread-safe: one pipeline owns it."""

    def __init__(self, models: Sequence[MonitoredModel], observer: RunObserver | None = None) -> None:
        self._models = {model.service: model for model in models}
        self._observer = observer
        self._judges: dict[Stream, StreamJudge] = {}
        self._refused: set[Service] = set()
        self._dirty: set[Stream] = set()

    def judge(self, items: Sequence[Item], /) -> list[Finding]:
        """Return the findings of the items, stream by stream, each in the order of the journal.

        Where an endpoint is judged against another one, the order is the journal's over both.
        """
        findings: list[Finding] = []
        for stream, group in self._grouped(items):
            judge = self._judge_of(stream)
            if judge is not None:
                self._dirty.add(stream)
                findings.extend(judge.judge(group))
        return findings

    def _grouped(self, items: Sequence[Item]) -> list[tuple[Stream, list[Item]]]:
        groups: list[tuple[Stream, list[Item]]] = []
        last: dict[Stream | Service, list[Item]] = {}
        for item in items:
            together: Stream | Service = item.stream
            if item.stream.service in self._models and _compares(self._models[item.stream.service].settings):
                together = item.stream.service
            group = last.get(together)
            if group is None or group[-1].stream != item.stream:
                group = last[together] = []
                groups.append((item.stream, group))
            group.append(item)
        return groups

    def dump(self) -> dict[str, bytes | None]:
        """Return the states of the streams that saw traffic since the last dump."""
        states: dict[str, bytes | None] = {}
        for stream in self._dirty:
            states.update({_name(stream, key): data for key, data in self._judges[stream].dump().items()})
        self._dirty.clear()
        return states

    def load(self, states: Mapping[str, bytes], /) -> None:
        """Forget everything and continue from an earlier dump."""
        self._judges.clear()
        self._dirty.clear()
        parts: dict[Stream, dict[Key, bytes]] = {}
        for name, data in states.items():
            place = orjson.loads(name)
            if len(place) == _NAME_PARTS:  # else of an earlier version, whose states are no longer read
                feed, segment, part = place[4:]
                parts.setdefault(Stream(*place[:4]), {})[feed, segment, part] = data
        for stream, kept in parts.items():
            judge = self._judge_of(stream)
            if judge is not None:
                judge.load(kept)

    def statuses(self) -> list[DetectorStatus]:
        """Return where every detector of every stream stands."""
        return [status for judge in self._judges.values() for status in judge.statuses()]

    def _judge_of(self, stream: Stream) -> StreamJudge | None:
        judge = self._judges.get(stream)
        if judge is not None:
            return judge
        model = self._models.get(stream.service)
        if model is None or not any(rule.component == stream.component for rule in model.settings.detectors):
            return None
        if sum(known.service == stream.service for known in self._judges) >= MOST_STREAMS:
            if stream.service not in self._refused:
                self._refused.add(stream.service)
                logger.warning("%s has more than %d streams; further ones are not judged", stream.service, MOST_STREAMS)
            return None

        def other(endpoint: str) -> StreamJudge | None:
            return self._judges.get(stream._replace(endpoint=endpoint))

        judge = StreamJudge(stream, model.settings, model.given, self._observer, other=other)
        self._judges[stream] = judge
        return judge


def _compares(model: ModelSettings) -> bool:
    return any(isinstance(rule, DriftSettings) and rule.against is not None for rule in model.detectors)


def _name(stream: Stream, key: Key) -> str:
    return orjson.dumps([*stream, *key]).decode()
