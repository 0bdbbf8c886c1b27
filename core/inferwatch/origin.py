"""The mark that an explainer's own questions carry: an event id that says so, signed where there is a key.

Whoever can send requests can also send ids. Where that matters, explainers and ingest share a key, and an id without
its signature (HMAC-SHA-256 of the id before it, 128 bits of it) marks nothing.
"""

from __future__ import annotations

import hmac
from uuid import uuid4

from inferwatch.events import EXPLAIN_ID_PREFIX


class Origin:
    """Marks events as an explainer's, and tells those that are."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key

    @property
    def signs(self) -> bool:
        """Whether there is a key, so that only what is signed counts."""
        return self._key is not None

    def mark(self) -> str:
        """Return a new id, `inferwatch-explain-<uuid>`, with `-<signature>` behind it where there is a key."""
        identity = f"{EXPLAIN_ID_PREFIX}{uuid4()}"
        return identity if self._key is None else f"{identity}-{_signature(self._key, identity)}"

    def is_ours(self, identity: str) -> bool:
        """Return whether an id is a mark."""
        if not identity.startswith(EXPLAIN_ID_PREFIX):
            return False
        if self._key is None:
            return True
        marked, _, signature = identity.rpartition("-")
        return hmac.compare_digest(signature.encode(), _signature(self._key, marked).encode())


def _signature(key: bytes, identity: str) -> str:
    return hmac.digest(key, identity.encode(), "sha256").hex()[:32]
