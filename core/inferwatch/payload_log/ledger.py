"""The ledger: what became of every event that was received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from inferwatch.events import EXPLANATION_TYPE, CloudEvent

Outcome = Literal["stored", "duplicate", "ignored", "malformed", "refused", "clamped"]
"""`clamped` is a remark on an event's time, no outcome of its own: it is outside the sum."""

MAX_LABELS = 100
MAX_LABEL_LENGTH = 128
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account of every event: `received` is the sum of all outcomes, at every moment and across restarts.

    `payloads` says of the stored and the duplicate ones how many were a request, a response or an explanation, as far
    as that was counted: (outcome, role) to number. `ignored` is by event type, `malformed` and `refused` by reason.
    `clamped` of the stored and duplicate ones bore a time too far ahead of their arrival.
    """

    stored: int = 0
    duplicate: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    malformed: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    clamped: int = 0
    payloads: Mapping[tuple[str, str], int] = field(default_factory=dict, compare=False)

    @property
    def received(self) -> int:
        """The number of events that came, whatever became of them."""
        labelled = (self.ignored, self.malformed, self.refused)
        return self.stored + self.duplicate + sum(sum(counts.values()) for counts in labelled)

    def as_dict(self) -> dict[str, object]:
        """Return the account as the API shows it."""
        return {
            "received": self.received,
            "stored": self.stored,
            "duplicate": self.duplicate,
            "ignored": dict(self.ignored),
            "malformed": dict(self.malformed),
            "refused": dict(self.refused),
            "clamped": self.clamped,
        }


def role_label(event: CloudEvent) -> str:
    """Return the label under which a stored event counts: `request`, `response`, `explanation`, or empty."""
    if event.role is None:
        return "explanation" if event.type == EXPLANATION_TYPE else ""
    return event.role.name.lower()


class Tally:
    """Counts by outcome and label; a label that is too long, unprintable, or one too many counts as `other`."""

    def __init__(self, counts: Mapping[tuple[str, str], int] | None = None) -> None:
        self._counts = Counter(counts or {})

    def copy(self) -> Tally:
        """Return a tally of its own that starts from these counts."""
        return Tally(self._counts)

    def add(self, outcome: Outcome, label: str = "", count: int = 1) -> tuple[str, str]:
        """Count, and return the outcome and the label under which it was."""
        key = (outcome, label)
        if key not in self._counts and label:
            key = (outcome, self._bounded(outcome, label))
        self._counts[key] += count
        return key

    def ledger(self) -> Ledger:
        """Return the account so far."""

        def labelled(outcome: Outcome) -> dict[str, int]:
            return {label: count for (kind, label), count in sorted(self._counts.items()) if kind == outcome}

        stored, duplicate = labelled("stored"), labelled("duplicate")
        roles = {("stored", role): count for role, count in stored.items() if role}
        roles |= {("duplicate", role): count for role, count in duplicate.items() if role}
        return Ledger(
            stored=sum(stored.values()),
            duplicate=sum(duplicate.values()),
            ignored=labelled("ignored"),
            malformed=labelled("malformed"),
            refused=labelled("refused"),
            clamped=self._counts["clamped", ""],
            payloads=roles,
        )

    def _bounded(self, outcome: Outcome, label: str) -> str:
        known = sum(kind == outcome for kind, _ in self._counts)
        fits = len(label) <= MAX_LABEL_LENGTH and label.isprintable()
        return label if fits and known < MAX_LABELS else OTHER
