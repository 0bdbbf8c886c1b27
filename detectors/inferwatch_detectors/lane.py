"""Encoded rows of one stream, or of one segment of it, on their way through the burn-in to the detectors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson

from inferwatch.clock import NS_PER_S
from inferwatch.finding import Finding
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Matrix, Schema
from inferwatch.status import DetectorStatus
from inferwatch_detectors.burn_in import BurnIn
from inferwatch_detectors.dependence import Dependence, estimate_dependence
from inferwatch_detectors.gathering import LEARNT_ROWS, Learnt
from inferwatch_detectors.packing import pack_parts, unpack_parts
from inferwatch_detectors.post import Beat, Post
from inferwatch_detectors.rolling import LEAST_ROWS, RollingRows
from inferwatch_detectors.window import Marks

logger = logging.getLogger(__name__)

_NS_PER_HOUR = 3600 * NS_PER_S

Parts = dict[str, bytes | None]


class Lane:
    """Holds a reference once there is one, the burn-in, and the posts.

    Without a reference rows pass unjudged, but where a `schema` says how they are encoded: then the first `LEARNT_ROWS`
    become the reference. With `rolling` they are kept for the references to come instead, and `roll` makes these.
    `cycle_hours` is the season whose parts are segments, 0 where none are.
    """

    def __init__(
        self,
        beat: Beat,
        posts: Sequence[Post],
        given: Reference | None,
        burn_in_rows: int | None,
        schema: Schema | None = None,
        rolling: RollingRows | None = None,
        *,
        cycle_hours: int = 0,
        restoring: bool = False,
    ) -> None:
        self.beat = beat
        self.posts = posts
        self.reference: Reference | None = None
        self._given = given
        self._burn_in_rows = burn_in_rows
        self._schema = schema
        self._rolling = rolling
        self._cycle_hours = cycle_hours
        self._learnt: Reference | None = None
        self._held: list[Matrix] = []
        self._burn_in: BurnIn | None = None
        self._unsaved = False
        if given is not None:
            self.enter(given, now=not restoring)

    @property
    def schema(self) -> Schema | None:
        """How rows are encoded, as far as that is known."""
        return self.reference.schema if self.reference is not None else self._schema

    @property
    def note(self) -> str | None:
        """What a rolling reference waits for, or why windows tell too much or too little; None for none of these."""
        if self._rolling is None or self.reference is not None or self._schema is None:
            return self._unseen_cycle if self._cycle_hours else self._told_little
        return (
            f"the reference rolls: it begins with {LEAST_ROWS:,} rows that are older than lag_days"
            f" ({self._rolling.rule.lag_days:g}), and {self._rolling.seen:,} have come so far"
        )

    @property
    def _unseen_cycle(self) -> str | None:
        """Why all rows together may alarm through the day."""
        if self._burn_in is None or self._burn_in.dependence is None or self._burn_in.span is None:
            return None
        since_ns, until_ns = self._burn_in.span
        hours = (until_ns - since_ns) / _NS_PER_HOUR
        if hours >= self._cycle_hours:
            return None
        rows = self._burn_in.dependence.rows
        return (
            f"the burn-in of {rows:,} rows spanned {hours:.2g} of the {self._cycle_hours} hours whose parts are"
            " segments: all rows together may take the cycle for drift; let burn_in_rows span three"
        )

    @property
    def _told_little(self) -> str | None:
        """Why a drift detector's windows hardly ever alarm, where rows depend on each other."""
        if self._burn_in is None or self._burn_in.dependence is None:
            return None
        newest = [post.status.newest for post in self.posts if post.settings.kind == "drift"]
        rows = [each.window.rows for each in newest if each is not None and each.window is not None]
        little = self._burn_in.dependence.told_little(min(rows)) if rows else None
        return f"rows depend on each other so much that {little}" if little else None

    @property
    def needs_rows(self) -> int:
        """Rows that are missing until windows begin."""
        learning = 0
        if self._schema is not None and self.reference is None:
            learning = LEARNT_ROWS - sum(map(len, self._held))
            if self._rolling is not None:
                learning = max(0, LEAST_ROWS - self._rolling.seen)
        return learning + (self._burn_in.needs_rows if self._burn_in is not None else 0)

    def enter(self, reference: Reference, dependence: Dependence | None = None, *, now: bool = True) -> None:
        """Judge against the reference from now on: after a burn-in, but where the dependence of rows is known.

        Detectors are built `now`, which tells whether they can be, or with the first rows that they are to judge.
        """
        known = dependence or (self._burn_in.dependence if self._burn_in is not None else None)
        for post in self.posts if self.reference is not None else ():
            post.relieve()
        self._unsaved = reference is not self._given
        self.reference = reference
        self._burn_in = BurnIn(reference, self._burn_in_rows)
        if known is not None:
            self._burn_in.conclude(known)
        self._man(now=now)

    def accept(self, reference: Reference) -> None:
        """Judge against a reference that was accepted; one that rolls goes on from the rows behind it."""
        self.enter(reference)
        self._tell("compared with accepted traffic")
        if self._rolling is not None:
            self._rolling.clear()

    def begin(self, learnt: Learnt) -> None:
        """Let a rolling reference begin with the rows that told the columns."""
        assert self._rolling is not None  # noqa: S101 - the feed asks where it is
        self._learnt, self._schema = learnt.reference, learnt.reference.schema
        self._rolling.add(learnt.values, learnt.times_ns)
        self._unsaved = True

    def roll(self, at_ns: int) -> None:
        """Take the reference of a moment of renewal, where there are rows enough."""
        schema = self.schema
        if self._rolling is None or schema is None or (found := self._rolling.reference(at_ns, schema)) is None:
            return
        if self.reference is None or self._burn_in is None:
            self.enter(found)
        else:
            self.reference, self._unsaved = found, True
            self._burn_in.follow(found)
            for post in self.posts:
                post.renew(found, self._burn_in.dependence)
        self._tell(self._rolling.said)

    def _tell(self, said: str) -> None:
        """Let findings say what rows are compared with."""
        self.beat = replace(self.beat, assumption=said)
        for post in self.posts:
            post.beat = self.beat

    def judge(self, batch: Batch, marks: Marks, mark_ns: int, share: float) -> list[Finding]:
        """Return what the detectors say about the rows, and about windows that are over by the watermark."""
        if self._rolling is not None:
            self._rolling.add(batch.values, batch.times_ns)
        if self.reference is None:
            taken = self._learn(batch)
            batch, marks = batch.slice(taken, len(batch)), marks[taken:]
        if self.reference is None or self._burn_in is None:
            return []
        findings = [finding for post in self.posts if len(batch) for finding in post.judge_rows(batch)]
        settled = self._settle(batch, self._burn_in)
        marks = marks[len(batch) - len(settled) :]
        findings += [finding for post in self.posts for finding in post.judge(settled, marks, mark_ns, share)]
        return findings

    def _learn(self, batch: Batch) -> int:
        """Take rows for the reference, and return how many."""
        if self._schema is None or self._rolling is not None:
            return len(batch)
        taken = batch.slice(0, min(self.needs_rows, len(batch)))
        self._held.append(taken.values)
        if self.needs_rows == 0:
            values = np.concatenate(self._held)
            self._held = []
            reference = Reference.encoded(self._schema, values, ordered=True, created_ns=int(taken.times_ns[-1]))
            self.enter(reference, estimate_dependence(values, reference))
        return len(taken)

    def _settle(self, batch: Batch, burn_in: BurnIn) -> Batch:
        """Return the rows that are past the burn-in; with its last row, the window detectors are built."""
        if burn_in.dependence is not None:
            return batch
        rest = burn_in.add(batch)
        found = burn_in.dependence
        if found is not None:
            logger.info("%s: burn-in over after %d rows: %s", self.beat.stream.service, found.rows, found.assumption)
            self._man()
        return rest

    def _man(self, *, now: bool = True) -> None:
        if self.reference is not None and self._burn_in is not None:
            for post in self.posts:
                post.man(self.reference, self._burn_in.dependence, now=now)

    def standings(self, notes: Sequence[str] = (), missing: int = 0) -> list[DetectorStatus]:
        """Return where each detector stands; `missing` more rows are wanted before any reaches this lane."""
        return [post.standing(missing + self.needs_rows, notes) for post in self.posts]

    def dump(self) -> Parts:
        """Return everything that later findings depend on; the reference where it is not the given one and is new."""
        burn_in = self._burn_in
        about = {
            "dependence": burn_in.dependence.as_dict() if burn_in and burn_in.dependence else None,
            "burn_in_span": burn_in.span if burn_in else None,
            "held": sum(map(len, self._held)),
            "said": self.beat.assumption,
        }
        parts: Parts = {"about": orjson.dumps(about), "burn-in": burn_in.dump() if burn_in else b""}
        parts["held"] = b"".join(part.tobytes() for part in self._held) if self._held else None
        parts |= {f"post {post.name}": pack_parts(post.dump()) for post in self.posts}
        parts |= self._rolling.dump() if self._rolling is not None else {}
        if self.reference is None or self.reference is self._given:
            parts["reference"] = None
        elif self._unsaved:
            parts["reference"] = self.reference.dump()
        if self._unsaved and self._learnt is not None:
            parts["learnt"] = self._learnt.dump() if self.reference is None else None
        self._unsaved = False
        return parts

    def load(self, parts: dict[str, bytes]) -> None:
        """Continue from a dump."""
        about = orjson.loads(parts["about"])
        if "learnt" in parts:
            self._learnt = Reference.parse(parts["learnt"])
            self._schema = self._learnt.schema
        if "reference" in parts:
            self.enter(Reference.parse(parts["reference"]), now=False)
        self._tell(about.get("said", self.beat.assumption))
        if self._rolling is not None:
            self._rolling.load(parts)
        self._unsaved = False
        if about["held"]:
            self._held = [np.frombuffer(parts["held"], np.float64).reshape(about["held"], -1)]
        if self._burn_in is not None:
            kept, span = about["dependence"], about.get("burn_in_span")
            self._burn_in.load(parts["burn-in"], kept and Dependence.from_dict(kept), span and tuple(span))
        width = len(self.reference.schema.features) if self.reference is not None else None
        for post in self.posts:
            if (data := parts.get(f"post {post.name}")) is not None:
                post.load(unpack_parts(data), width)
        self._man(now=False)
