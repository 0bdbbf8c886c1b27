"""How the events of one delivery fared where they fared differently."""

from __future__ import annotations

from collections.abc import Sequence

from inferwatch.errors import DeliveryError


class PartialDelivery(DeliveryError):
    """A sink took some events and not others. `outcomes` has one entry an event, None for those it took."""

    def __init__(self, outcomes: Sequence[DeliveryError | None]) -> None:
        failed = [outcome for outcome in outcomes if outcome is not None]
        super().__init__(str(failed[0]), retryable=any(outcome.retryable for outcome in failed))
        self.outcomes = tuple(outcomes)


def outcomes_of(error: DeliveryError, count: int) -> Sequence[DeliveryError | None]:
    """Return one entry for each of `count` events: the error that kept it from being delivered, or None."""
    return error.outcomes if isinstance(error, PartialDelivery) else (error,) * count
