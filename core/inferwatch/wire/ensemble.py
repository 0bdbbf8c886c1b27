"""What an Ensemble node of an InferenceGraph answers: an object of its steps' V1 or V2 replies, by name or index.

The caller has it as the response, and the step behind the node as its request. The columns are `<step>.<column>`. A
step that failed and may fail (`{"error": ..., "cause": ...}`) has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferwatch.events import Role
from inferwatch.rows import Column, Rows
from inferwatch.wire import v1, v2
from inferwatch.wire.columns import joined

_REPLY = Role.RESPONSE


def is_ensemble(body: Mapping[str, Any]) -> bool:
    """Return whether the body is replies by step, one at least of a step that did not fail."""
    replies = body.values()
    if not all(isinstance(reply, dict) and (_is_reply(reply) or "error" in reply) for reply in replies):
        return False
    return any(map(_is_reply, replies))


def rows(body: Mapping[str, Any]) -> Rows:
    """Return the steps' columns side by side. Raises `UndecodablePayload`, also where row counts differ."""
    return joined(_named(step, _rows(reply)) for step, reply in body.items() if _is_reply(reply))


def _is_reply(reply: Mapping[str, Any]) -> bool:
    return v2.is_v2(reply, _REPLY) or v1.field(reply, _REPLY) is not None


def _rows(reply: Mapping[str, Any]) -> Rows:
    if v2.is_v2(reply, _REPLY):
        return v2.rows(reply, _REPLY)
    return v1.rows(reply, v1.field(reply, _REPLY) or "", _REPLY)


def _named(step: str, found: Rows) -> Rows:
    columns = tuple(Column(f"{step}.{column.name}", column.values) for column in found.columns)
    blocks = tuple(block._replace(name=f"{step}.{block.name}") for block in found.blocks)
    return Rows(columns, found.count, blocks=blocks)
