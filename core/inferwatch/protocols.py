"""The smallest interfaces between the parts. Nobody needs to inherit from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from inferwatch.rows import Batch, Matrix

if TYPE_CHECKING:
    from concurrent.futures import Future

    from inferwatch.events import CloudEvent
    from inferwatch.explanation import Explanation
    from inferwatch.finding import Finding
    from inferwatch.payload_log.ledger import Ledger

Predict = Callable[[Matrix], NDArray[Any]]
"""Rows (n, d) as a `Schema` encodes them -> outputs (n,) or (n, k)."""


@runtime_checkable
class Detector(Protocol):
    """Judges rows. The reference goes into the constructor: there is no unfitted state."""

    def observe(self, batch: Batch, /) -> Sequence[Finding]:
        """Return what the batch shows. A window detector is given whole windows, a row detector any number of rows.

        The batch is not modified. Raises `InvalidRows` for another width than the reference's.
        """
        ...


@runtime_checkable
class Stateful(Protocol):
    """A detector with memory beyond the rows it is given. The service keeps the state with the log position."""

    def dump(self) -> bytes:
        """Return everything that later findings depend on."""
        ...

    def load(self, data: bytes, /) -> None:
        """Continue as the detector that dumped `data` would have."""
        ...


@runtime_checkable
class Explainer(Protocol):
    """Explains predictions. The predict function is injected in the constructor."""

    def explain(self, rows: Matrix, /, *, target: int | str | None = None) -> Explanation:
        """Return an explanation of each row (n, d)."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Takes events somewhere. Returning is success; failure raises `DeliveryError`."""

    async def send(self, events: Sequence[CloudEvent], /) -> None:
        """Deliver the events."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class Intake(Protocol):
    """Where accepted events go: the journal of a payload log, or a topic. Every method may be called by any thread."""

    max_inflight_bytes: int
    """What may wait to be kept."""

    @property
    def waiting_bytes(self) -> int:
        """What waits to be kept."""
        ...

    @property
    def fault(self) -> str | None:
        """Why events are refused at present; None while they are taken."""
        ...

    def append(
        self, events: Sequence[CloudEvent] = (), *, ignored: Sequence[str] = (), malformed: Sequence[str] = ()
    ) -> Future[Any]:
        """Take what was received; the future is done once it is kept and counted.

        `ignored` holds types, `malformed` reasons of what is counted only. Do not cancel the future. It fails, or this
        raises at once, with `PayloadLogError` or `DeliveryError`; what was not kept is then counted as refused.
        """
        ...

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count events that were turned away before they came here."""
        ...

    def ledger(self) -> Ledger:
        """Return the account of every event received so far."""
        ...
