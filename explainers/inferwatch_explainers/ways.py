"""The ways of asking a predictor, and which of those that answer alike is the fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

from numpy.typing import NDArray

from inferwatch.errors import MissingExtra, PredictorError
from inferwatch_explainers.grpc_predictor import require_grpc
from inferwatch_explainers.predictor_reply import same_outputs

Dialect = Literal["v1", "v2", "v2_binary", "grpc"]
"""What is spoken on the wire: a protocol, V2 with tensors as JSON or as raw bytes, over HTTP or gRPC."""

Spoken = Literal["auto", "v1", "v2", "v2_binary", "grpc"]

Ask = Callable[[Dialect, float], NDArray[Any]]
"""Asks in one way for at most so many seconds. Raises `PredictorError`, and `PredictorBusy` where it is to be asked
again later."""

WORTH_ROWS: Final = 10_000
"""Questions of fewer rows, which fit one call, are not worth finding out how to ask them best."""

PROBED_ROWS: Final = 2048

TEXT: Final[tuple[Dialect, ...]] = ("v1", "v2")
_MARGIN: Final = 1.25
"""So much faster JSON has to be than raw bytes: the sample is small, and time passes unevenly on a busy machine."""

_TURNS: Final = 3
_SHOWN: Final = 128
_PATIENCE_S: Final = 1.0
_FIRST_CONTACT_S: Final = 0.25


class PredictorBusy(PredictorError):
    """A predictor that does not answer just now."""


class Way(NamedTuple):
    """How rows go to a predictor, and what was seen of the other ways."""

    dialect: Dialect
    why: str


def known() -> tuple[Dialect, ...]:
    """Return the ways that can be asked in; gRPC only where grpcio is installed."""
    try:
        require_grpc()
    except MissingExtra:
        return *TEXT, "v2_binary"
    return *TEXT, "v2_binary", "grpc"


def fastest(
    own: Dialect, others: Sequence[Dialect], ask: Ask, left_s: float, clock: Callable[[], float] = time.monotonic
) -> Way:
    """Return the fastest way of those that answer as the request's `own` one does; the best of three calls counts.

    JSON is taken only where raw bytes are slower by more than a quarter: of larger questions it costs more.
    At most a quarter of the `left_s` seconds and one second is spent on it, fewer turns where calls are slow, and a way
    that takes twice as long as `own` is given up. Raises what `ask` raises of `own`, and `PredictorBusy` of any.
    """
    begun, patience_s = clock(), min(_PATIENCE_S, left_s / 4)
    said = ask(own, left_s)
    seconds: dict[Dialect, float] = {own: clock() - begun}
    faults: dict[Dialect, str] = {}
    for turn in range(_TURNS):
        if turn and clock() - begun > patience_s / 2:
            break
        for dialect in tuple(seconds) if turn else others:
            started = clock()
            limit_s = min(begun + patience_s - started, 2 * seconds[own] + _FIRST_CONTACT_S)
            try:
                if limit_s <= 0:
                    raise PredictorError("no time was left to ask")
                answered = ask(dialect, limit_s)
                if not same_outputs(answered, said):
                    raise PredictorError("it answers otherwise")
            except PredictorBusy:
                raise
            except PredictorError as fault:
                faults.setdefault(dialect, str(fault)[:_SHOWN])
                continue
            took = clock() - started
            seconds[dialect] = min(took, seconds.get(dialect, took))
    best = min(seconds, key=lambda dialect: seconds[dialect] * (_MARGIN if dialect in TEXT else 1.0))
    timed = ", ".join(f"{dialect} took {1000 * took:.1f} ms" for dialect, took in seconds.items())
    return Way(best, "; ".join([timed, *(f"{dialect}: {fault}" for dialect, fault in faults.items())]))
