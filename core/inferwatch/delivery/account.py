"""The account of captured events: where every one of them is, at any moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

REASONS: Final = ("queue_full", "refused", "expired", "error", "shutdown", "damaged")
"""Why an event may be dropped. Queue files store counts in this order: append, never reorder."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where every captured event is: captured = delivered + queued + in_flight + the sum of dropped."""

    captured: int
    delivered: int
    queued: int
    in_flight: int
    dropped: Mapping[str, int]

    @classmethod
    def of(cls, delivered: int, queued: int, in_flight: int, dropped: Mapping[str, int]) -> Account:
        """Return the account in which everything captured is one of these; reasons with no event are left out."""
        reasons = {reason: count for reason, count in dropped.items() if count}
        return cls(delivered + queued + in_flight + sum(reasons.values()), delivered, queued, in_flight, reasons)

    def as_dict(self) -> dict[str, Any]:
        """Return the account in the words of the API: what is queued is `spooled`."""
        return {
            "captured": self.captured,
            "delivered": self.delivered,
            "spooled": self.queued,
            "in_flight": self.in_flight,
            "dropped": dict(self.dropped),
        }


def total(accounts: Iterable[Account]) -> Account:
    """Return the sum of the accounts of several sinks."""
    delivered = queued = in_flight = 0
    dropped: dict[str, int] = {}
    for account in accounts:
        delivered += account.delivered
        queued += account.queued
        in_flight += account.in_flight
        for reason, count in account.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return Account.of(delivered, queued, in_flight, dropped)
