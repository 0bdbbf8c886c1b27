"""Judges one stream: its inputs, predictions, embeddings and explanations, each in a feed of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import orjson

from inferwatch.derived import column_of
from inferwatch.events import Stream
from inferwatch.finding import Finding
from inferwatch.pipeline import Item
from inferwatch.reference import Reference
from inferwatch.reference.profile import NumericProfile
from inferwatch.rows import Batch, Rows, Schema
from inferwatch.settings import AnyDetectorSettings, DriftSettings, ModelSettings
from inferwatch.status import DetectorStatus
from inferwatch_detectors.attributions import Attributions
from inferwatch_detectors.feed import Feed
from inferwatch_detectors.fleet import Fleet
from inferwatch_detectors.gathering import LEARNT_ROWS, Learning
from inferwatch_detectors.lane import Lane
from inferwatch_detectors.parts import Outputs, Part, inputs
from inferwatch_detectors.post import Against, Beat, Post, RunObserver
from inferwatch_detectors.recent import Recent
from inferwatch_detectors.rolling import Rolling, RollingRows
from inferwatch_detectors.segments import Segments
from inferwatch_detectors.vectors import projected, vectors

Key = tuple[str, str | None, str]
"""What a part of a dump is of: the feed, the segment (None: all rows), and what it holds."""

Other = Callable[[str], "StreamJudge | None"]
"""Finds the judge of another endpoint of the same component."""

_ABSENT = {
    "predictions": "no response of a pair has come yet",
    "embeddings": "no vectors have come yet, in requests or in responses of pairs",
    "explanations": "no explanation by features has come yet",
}


class StreamJudge:
    """Everything that is judged about one stream, of one model version where references go by that."""

    def __init__(
        self,
        stream: Stream,
        model: ModelSettings,
        given: Reference | None,
        observer: RunObserver | None = None,
        *,
        fleet: Fleet | None = None,
        version: str | None = None,
        other: Other = lambda endpoint: None,  # noqa: ARG005 - there is no other
        restoring: bool = False,
    ) -> None:
        self._stream = stream
        self._model = model
        self._observer = observer
        self._fleet = fleet
        self._version = version
        self._restoring = restoring
        self._other = other
        rules = [(name, rule) for name, rule in model.named_detectors() if rule.component == stream.component]
        self._order = [name for name, _ in rules]
        self.last_ns = 0
        asked = part_of(given, model, "inputs")
        names = asked.schema.names if asked is not None else tuple(feature.name for feature in model.features)
        self._segments = Segments(model.segments, names)
        self._outputs = Outputs(self._segments.labels, len(model.segments))
        self._vectors: tuple[str, str, int] | None = None
        self._attributions = Attributions()
        self.recent = Recent() if stream.endpoint in _rivals(rules) else None
        self._feeds: dict[str, Feed] = {}
        for kind in ("inputs", "predictions", "embeddings", "explanations"):
            of_kind = [(name, rule) for name, rule in rules if rule.on == kind and _rival(rule) is None]
            if of_kind or (kind == "inputs" and self.recent is not None):
                self._feeds[kind] = self._feed(kind, of_kind, part_of(given, model, kind))
        for endpoint in sorted(_rivals(rules) - {stream.endpoint}):
            of_rival = [(name, rule) for name, rule in rules if _rival(rule) == endpoint]
            self._feeds[f"against {endpoint}"] = self._feed_against(endpoint, of_rival, part_of(given, model, "inputs"))

    def judge(self, items: Sequence[Item]) -> list[Finding]:
        """Return what the detectors say about the items' rows, in the order of the items."""
        findings: list[Finding] = []
        self.last_ns = max(item.time_ns for item in items)
        asked = inputs(items, self._segments.labels)
        answered = self._outputs.take(items) if self._feeds.keys() & {"predictions", "embeddings"} else []
        for kind, feed in self._feeds.items():
            if kind == "predictions":
                findings += feed.judge(answered)
            elif kind == "embeddings":
                findings += feed.judge(self._embedded(items, asked, answered))
            elif kind == "explanations":
                findings += feed.judge(self._attributions.take(items))
                feed.note = self._attributions.note
            else:
                findings += feed.judge(asked)
        return findings

    def reference(self, kind: str = "inputs") -> Reference | None:
        """Return what rows of a kind are compared with at present."""
        feed = self._feeds.get(kind)
        return feed.reference if feed is not None else None

    def learn(self, rows: Sequence[Rows], created_ns: int) -> None:
        """Let the reference of inputs begin with rows that were logged before."""
        if "inputs" in self._feeds:
            self._feeds["inputs"].learn(rows, created_ns)

    def accept(self, reference: Reference) -> None:
        """Compare inputs with another reference from now on."""
        if "inputs" in self._feeds:
            self._feeds["inputs"].accept(reference)
        if self.recent is not None:
            self.recent.clear()

    def statuses(self) -> list[DetectorStatus]:
        """Return where each detector stands, in the order of the settings."""
        found = [status for feed in self._feeds.values() for status in feed.standings()]
        return sorted(found, key=lambda status: self._order.index(status.detector))

    def dump(self) -> dict[Key, bytes | None]:
        """Return everything that later findings depend on, in named parts."""
        about = {
            "segments": self._segments.dump(),
            "vectors": self._vectors,
            "attributions": self._attributions.method,
            "last_ns": self.last_ns,
        }
        parts: dict[Key, bytes | None] = {("", None, "about"): orjson.dumps(about)}
        if self._feeds.keys() & {"predictions", "embeddings"}:
            parts["", None, "outputs"] = self._outputs.dump()
        if self.recent is not None:
            parts |= {("", None, name): data for name, data in self.recent.dump().items()}
        for kind, feed in self._feeds.items():
            parts |= {(kind, *place): data for place, data in feed.dump().items()}
        return parts

    def load(self, parts: Mapping[Key, bytes]) -> None:
        """Continue from a dump. What was kept under another reference or rule starts anew."""
        self._restored(parts)
        self._restoring = False

    def _restored(self, parts: Mapping[Key, bytes]) -> None:
        about = orjson.loads(parts.get(("", None, "about"), b"null"))
        if about is None:
            return
        self._segments.load(about["segments"])
        self.last_ns = about["last_ns"]
        self._vectors = about["vectors"] and tuple(about["vectors"])
        self._attributions.method = about.get("attributions")
        if (data := parts.get(("", None, "outputs"))) is not None:
            self._outputs.load(data)
        if self.recent is not None:
            self.recent.load({name: data for (_, _, name), data in parts.items() if name.startswith("recent ")})
        for kind, feed in self._feeds.items():
            feed.load({(segment, name): data for (of, segment, name), data in parts.items() if of == kind})

    def _embedded(self, items: Sequence[Item], asked: Sequence[Part], answered: Sequence[Part]) -> list[Part]:
        """Return the vectors of the half, and of the array there, in which the first vector came."""
        order = {item.payload_key: number for number, item in enumerate(items)}
        sides = [("inputs", part) for part in asked] + [("outputs", part) for part in answered]
        sides.sort(key=lambda pair: order[pair[1].key])
        found: list[Part] = []
        for side, part in sides:
            wanted = self._vectors
            if wanted is not None and wanted[0] != side:
                continue
            held = vectors(part.rows, wanted and wanted[1])
            if held is None:
                continue
            name, values = held
            self._vectors = self._vectors or (side, name, values.shape[1])
            if values.shape[1] == self._vectors[2]:
                found.append(part._replace(rows=projected(values)))
                self._feeds["embeddings"].note = None
            else:
                self._feeds["embeddings"].note = f"vectors have {values.shape[1]} numbers, not {self._vectors[2]}"
        return found

    def _feed(self, kind: str, rules: Sequence[tuple[str, AnyDetectorSettings]], given: Reference | None) -> Feed:
        learning, learnt = None, ""
        if given is None:
            learning = self._learning(kind)
            what = "contributions to predictions, " if kind == "explanations" else ""
            learnt = f"{what}compared with {learning.said}"
        seen = self.recent if kind == "inputs" else None
        source = f"{given.id if given is not None else learning} {self._model.burn_in_rows}"
        rolling = learning.rolling if learning is not None else None
        return Feed(self._lanes(rules, learnt, rolling=rolling), source, given, learning, _ABSENT.get(kind, ""), seen)

    def _learning(self, kind: str) -> Learning:
        kept = self._model.reference_rows
        rolling = self._rolling
        if kind != "inputs":
            return Learning(LEARNT_ROWS, sample_rows=kept, rolling=rolling)
        features = tuple(feature.feature() for feature in self._model.features)
        if rolling is not None:
            return Learning(LEARNT_ROWS, features, kept, rolling=rolling)
        logged = self._model.logged
        if logged is None:
            return Learning(LEARNT_ROWS, features, kept)
        return Learning(logged.rows, features, kept, "first" if logged.first is not None else "last")

    @property
    def _rolling(self) -> Rolling | None:
        asked = self._model.rolling
        return Rolling(asked.days, asked.lag_days, self._model.reference_rows) if asked is not None else None

    def _feed_against(
        self, endpoint: str, rules: Sequence[tuple[str, AnyDetectorSettings]], given: Reference | None
    ) -> Feed:
        def borrowed() -> Reference | None:
            judge = self._other(endpoint)
            return judge.reference() if judge is not None else None

        def against(window: Batch) -> Reference | str:
            judge = self._other(endpoint)
            schema = feed.reference.schema if feed.reference is not None else None
            if judge is None or judge.recent is None or schema is None:
                return f"endpoint {endpoint} has no traffic yet"
            found = judge.recent.between(window.since_ns, int(window.times_ns.max()), schema)
            return f"endpoint {endpoint} cannot be compared with: {found}" if isinstance(found, str) else found

        lanes = self._lanes(rules, f"compared with endpoint {endpoint} at the same time", against)
        absent = f"endpoint {endpoint} has no reference yet"
        source = f"{given.id if given is not None else endpoint} {self._model.burn_in_rows}"
        feed = Feed(lanes, source, given, None, absent, borrowed=borrowed)
        return feed

    def _lanes(
        self,
        rules: Sequence[tuple[str, AnyDetectorSettings]],
        learnt: str,
        against: Against | None = None,
        rolling: Rolling | None = None,
    ) -> Callable[[str | None, Reference | None, Schema | None], Lane]:
        def lane(segment: str | None, given: Reference | None, schema: Schema | None) -> Lane:
            said = learnt if schema is None else f"compared with the segment's first {LEARNT_ROWS:,} rows"
            beat = Beat(self._stream, segment, self._version, said)
            posts = [
                Post(name, rule, self._model.false_alarms, beat, self._observer, against, self._fleet)
                for name, rule in rules
                if segment is None or rule.kind != "outlier"
            ]
            kept = RollingRows(rolling) if rolling is not None else None
            return Lane(
                beat,
                posts,
                given,
                self._model.burn_in_rows,
                schema,
                kept,
                cycle_hours=self._model.cycle_hours,
                restoring=self._restoring,
            )

        return lane


def _rival(rule: AnyDetectorSettings) -> str | None:
    return rule.against.endpoint if isinstance(rule, DriftSettings) and rule.against is not None else None


def _rivals(rules: Sequence[tuple[str, AnyDetectorSettings]]) -> set[str]:
    return {endpoint for _, rule in rules if (endpoint := _rival(rule)) is not None}


def part_of(given: Reference | None, model: ModelSettings, kind: str) -> Reference | None:
    """Return the part of the given reference that rows of a kind are compared with; None where it has none."""
    if given is None or kind == "explanations":
        return None
    if kind == "embeddings":
        return _embedded_reference(given)
    features = given.schema.features
    outputs = output_names(given, model)
    chosen = [feature for feature in features if (feature.name in outputs) == (kind == "predictions")]
    if len(chosen) == len(features):
        return given
    return given.select(chosen) if chosen else None


def output_names(given: Reference, model: ModelSettings) -> set[str]:
    """Return the features of a reference that are the model's outputs, or stand for a column that is one."""
    names = given.schema.names
    return {name for name in names if not {name, column_of(name, names)}.isdisjoint(model.outputs)}


def _embedded_reference(given: Reference) -> Reference | None:
    """Return the reference of the vectors: of the widest column of arrays, or of columns `name[0]`, `name[1]`, ..."""
    names = given.schema.names
    sizes = {
        column: entry.mean
        for name, entry in zip(names, given.profile.features, strict=True)
        if (column := column_of(name, names)) and name == f"{column}.size" and isinstance(entry, NumericProfile)
    }
    if sizes:
        stem = f"{max(sizes, key=lambda column: sizes[column])}."
        measures = [each for each in given.schema.features if each.name.startswith((f"{stem}length", f"{stem}proj"))]
        features = tuple(replace(each, name=each.name.removeprefix(stem)) for each in measures)
        return replace(given.select(measures), schema=Schema(features))
    stem = names[0].rpartition("[")[0]
    if len(names) < 2 or not stem or names != tuple(f"{stem}[{place}]" for place in range(len(names))):
        return None
    rows: Rows = projected(given.rows)
    return Reference.build(rows, sample_rows=len(given.rows), created_ns=given.created_ns, ordered=given.ordered)
