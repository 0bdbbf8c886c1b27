"""Runs the configured detectors over the rows of the journal, one `StreamJudge` a stream."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from inferwatch.events import Service, Stream
from inferwatch.finding import Finding
from inferwatch.pipeline import Item
from inferwatch.reference import Reference
from inferwatch.settings import ModelSettings
from inferwatch.status import DetectorStatus
from inferwatch_detectors.stream_judge import RunObserver, StreamJudge

logger = logging.getLogger(__name__)

MOST_STREAMS = 100
"""Streams (component and endpoint) of one model that are judged; what a sender invents beyond is only stored."""


@dataclass(frozen=True, slots=True)
class MonitoredModel:
    """A configured model with its reference."""

    settings: ModelSettings
    reference: Reference

    @property
    def service(self) -> Service:
        """The served model."""
        return Service(self.settings.namespace, self.settings.name)


class Worker:
    """Judges the items of a pipeline. Not thread-safe: one pipeline owns it."""

    def __init__(self, models: Sequence[MonitoredModel], observer: RunObserver | None = None) -> None:
        self._models = {model.service: model for model in models}
        self._observer = observer
        self._judges: dict[Stream, StreamJudge] = {}
        self._refused: set[Service] = set()
        self._dirty: set[Stream] = set()

    def judge(self, items: Sequence[Item], /) -> list[Finding]:
        """Return the findings of the items, stream by stream, each in the order of the journal."""
        streams: dict[Stream, list[Item]] = {}
        for item in items:
            streams.setdefault(item.stream, []).append(item)
        findings: list[Finding] = []
        for stream, group in streams.items():
            judge = self._judge_of(stream)
            if judge is not None:
                self._dirty.add(stream)
                findings.extend(judge.judge(group))
        return findings

    def dump(self) -> dict[str, bytes | None]:
        """Return the states of the streams that saw traffic since the last dump."""
        states: dict[str, bytes | None] = {}
        for stream in self._dirty:
            states.update({_name(stream, part): data for part, data in self._judges[stream].dump().items()})
        self._dirty.clear()
        return states

    def load(self, states: Mapping[str, bytes], /) -> None:
        """Forget everything and continue from an earlier dump."""
        self._judges.clear()
        self._dirty.clear()
        parts: dict[Stream, dict[str, bytes]] = {}
        for name, data in states.items():
            *place, part = orjson.loads(name)
            parts.setdefault(Stream(*place), {})[part] = data
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
        judge = self._judges[stream] = StreamJudge(stream, model.settings, model.reference, self._observer)
        return judge


def _name(stream: Stream, part: str) -> str:
    return orjson.dumps([*stream, part]).decode()
