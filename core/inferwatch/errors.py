"""Every fault that inferwatch raises on purpose.

::

    InferwatchError
    ├── ConfigError (ValueError)            a configuration with faults, all of them at once
    ├── InvalidEvent (ValueError)           an envelope that is no CloudEvent, with every fault
    ├── UndecodablePayload (ValueError)     a body that no known protocol explains
    ├── InvalidReference (ValueError)       a reference that cannot be read or used
    ├── InvalidImport (ValueError)          a file that holds no logged payloads
    ├── InvalidRows (ValueError)            rows of the wrong width, type or value
    ├── InvalidOption (ValueError)          an option of one request that is not allowed
    ├── UnkeepablePromise (ValueError)      a false-alarm promise that the reference is too small to carry
    ├── PayloadLogError (OSError)           the payload log cannot be opened, read or written
    ├── QueueFileError (OSError)            a queue file cannot be made, or is another process's
    ├── DeliveryError (ConnectionError)     a sink did not take an event; `retryable` says whether to try again
    ├── TransportError (ConnectionError)    a topic cannot be read for the moment
    ├── PredictorError (RuntimeError)       a predictor that is down, or answers what cannot be used
    │   └── PredictorTimeout (TimeoutError) a predictor that did not answer in time
    └── MissingExtra (ImportError)          an optional dependency is not installed

A message says what was wrong, the value, and what is allowed. Whether a fault may be retried is a property of its
type; HTTP status codes belong to the HTTP layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class InferwatchError(Exception):
    """The base of every fault raised on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a configuration or an event: where, what value, what is allowed."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class _Faulty(InferwatchError, ValueError):
    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))


class ConfigError(_Faulty):
    """A configuration with faults; `faults` lists every one of them."""


class InvalidEvent(_Faulty):
    """An envelope that is no valid CloudEvent; `faults` lists every one, `reason` is a short metric-safe word."""

    def __init__(self, faults: Sequence[Fault], reason: str = "envelope") -> None:
        super().__init__(faults)
        self.reason = reason


class UndecodablePayload(InferwatchError, ValueError):
    """A body that no known protocol explains. The payload is stored as `unknown` with this message."""


class InvalidReference(InferwatchError, ValueError):
    """A reference that cannot be read, or cannot be used for what was asked."""


class InvalidImport(InferwatchError, ValueError):
    """A file that cannot be read, or holds no logged payloads."""


class InvalidRows(InferwatchError, ValueError):
    """Rows of the wrong width, type or value."""


class InvalidOption(InferwatchError, ValueError):
    """An option of one request, such as a target or a deadline, that is not allowed; the message says what is."""


class UnkeepablePromise(InferwatchError, ValueError):
    """A stated false-alarm rate that the reference is too small to carry; the message names the size that would."""


class PayloadLogError(InferwatchError, OSError):
    """The payload log cannot be opened, read or written."""


class QueueFileError(InferwatchError, OSError):
    """A queue file cannot be made, opened or read, or another process has it."""


class DeliveryError(InferwatchError, ConnectionError):
    """A sink did not take an event."""

    def __init__(self, message: str, *, retryable: bool, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class TransportError(InferwatchError, ConnectionError):
    """A topic cannot be read for the moment: no broker answers, or it refuses."""


class PredictorError(InferwatchError, RuntimeError):
    """A predictor that is down, or answers something that cannot be used."""


class PredictorTimeout(PredictorError, TimeoutError):
    """A predictor that did not answer in time."""


class MissingExtra(InferwatchError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional dependency; install it with: pip install 'inferwatch[{extra}]'")
