"""Fail open: a step of capture that fails is counted and logged, and nobody else hears of it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from time import monotonic
from typing import Final, TypeVar, TypeVarTuple

logger = logging.getLogger(__name__)

_COMPLAINT_INTERVAL_S: Final = 60.0
_MOST_CAUSES: Final = 256

_Ts = TypeVarTuple("_Ts")
_T = TypeVar("_T")


class FailOpen:
    """Runs the steps of capture. A fault is counted, logged at most once a minute and cause, and never raised.

    A cause is the type of an exception and the line that raised it.
    """

    def __init__(self) -> None:
        self.errors = 0
        self._said_s: dict[object, float] = {}

    def __call__(self, step: Callable[[*_Ts], _T], *arguments: *_Ts) -> _T | None:
        """Return what the step returns, or None where it failed."""
        try:
            return step(*arguments)
        except Exception:  # noqa: BLE001 - fail open
            self.complain()
            return None

    def complain(self) -> None:
        """Count the exception that is being handled, and log it unless its like was logged just now."""
        self.errors += 1
        if self._is_news(_cause()):
            logger.exception("capture failed; the request is served all the same (%d times so far)", self.errors)

    def warn(self, cause: str) -> None:
        """Log what is odd and no error, unless it was just now."""
        if self._is_news(cause):
            logger.warning(cause)

    def _is_news(self, cause: object) -> bool:
        now_s = monotonic()
        if now_s - self._said_s.get(cause, -_COMPLAINT_INTERVAL_S) < _COMPLAINT_INTERVAL_S:
            return False
        if len(self._said_s) >= _MOST_CAUSES:
            self._said_s.clear()
        self._said_s[cause] = now_s
        return True


def _cause() -> object:
    kind, _, trace = sys.exc_info()
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return kind, trace and (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
