"""What stands in for detectors where none runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferwatch.finding import Finding
from inferwatch.pipeline import Item
from inferwatch.status import DetectorStatus


class Bystander:
    """Judges nothing, and leaves what detectors said as it is."""

    def __init__(self, statuses: Sequence[DetectorStatus] = ()) -> None:
        self._statuses = statuses

    def judge(self, items: Sequence[Item], /) -> Sequence[Finding]:  # noqa: ARG002 - the protocol's
        """Return no findings."""
        return ()

    def dump(self) -> Mapping[str, bytes | None]:
        """Return no state that changed."""
        return {}

    def load(self, states: Mapping[str, bytes], /) -> None:
        """Take no note of the states of detectors."""

    def statuses(self) -> Sequence[DetectorStatus]:
        """Return where every detector stood."""
        return self._statuses
