"""The codes that gRPC calls end with, and what HTTP has for each (google/rpc/code.proto)."""

from __future__ import annotations

from typing import Final

HTTP_STATUS: Final = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""The HTTP status of each code by its name, in the order of their numbers."""

_NAMES: Final = tuple(HTTP_STATUS)


def name_of(number: bytes) -> str:
    """Return the name of the code that a `grpc-status` field states; `UNKNOWN` for what is none."""
    code = int(number) if number.isdigit() and len(number) < 4 else len(_NAMES)
    return _NAMES[code] if code < len(_NAMES) else "UNKNOWN"
