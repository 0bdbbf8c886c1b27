"""Which traffic is stored and not judged."""

from __future__ import annotations

import orjson

from inferwatch.events import EXPLAIN_ID_PREFIX, ORIGIN_HEADER, CloudEvent


def exclusion(event: CloudEvent, protocol: str) -> str | None:
    """Return why no detector may count the payload half, or None.

    `explain`: a call that an explainer made to its predictor, by its id, by the origin header among the logged
    metadata, or because the component is an explainer. `health`: a probe or a question about metadata.
    """
    if event.id.startswith(EXPLAIN_ID_PREFIX) or event.stream.component == "explainer":
        return "explain"
    metadata = event.extensions.get("metadata")
    if metadata and ORIGIN_HEADER.lower() in metadata.lower() and _origin(metadata) == "explain":
        return "explain"
    return "health" if protocol == "health" else None


def _origin(metadata: str) -> str | None:
    try:
        headers = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(headers, dict):
        return None
    for name, values in headers.items():
        if name.lower() == ORIGIN_HEADER.lower():
            return str(values[0]) if isinstance(values, list) and values else str(values)
    return None
