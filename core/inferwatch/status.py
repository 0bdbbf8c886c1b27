"""Where a detector of a stream stands: what the API lists, the console shows and the metrics export."""

from __future__ import annotations

from dataclasses import dataclass

from inferwatch.finding import Finding


@dataclass(frozen=True, slots=True)
class DetectorStatus:
    """The newest word of one detector of one stream.

    `state` is `waiting` (not enough rows yet), `ok` or `alarm`. `windowed` says whether windows are judged, or single
    rows. `needs_rows` says how many rows are missing for the next verdict, None where every row gets one or time
    decides; `window_rows` likewise. `scored` counts judged rows, `flagged` the single rows that fired, `windows` and
    `failures` the runs, `late` the rows that came when their window was closed, `unfit` those whose columns are not the
    reference's. `newest` is the newest verdict of a window detector.
    """

    namespace: str
    name: str
    component: str
    endpoint: str
    detector: str
    kind: str
    method: str
    state: str = "waiting"
    windowed: bool = True
    window_rows: int | None = None
    needs_rows: int | None = None
    last_run_ns: int | None = None
    windows: int = 0
    failures: int = 0
    late: int = 0
    unfit: int = 0
    scored: int = 0
    flagged: int = 0
    newest: Finding | None = None
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> float | None:
        """The newest window's score."""
        return self.newest.score if self.newest else None

    @property
    def threshold(self) -> float | None:
        """The newest window's threshold."""
        return self.newest.threshold if self.newest else None
