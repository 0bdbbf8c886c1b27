"""What tests read through the API."""

from __future__ import annotations

from typing import Any

from tests.logger.watched_log import WatchedLog


def all_of(log: WatchedLog, address: str, limit: int) -> list[dict[str, Any]]:
    """Follow `next` to the end."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = log.get(f"{address}{'&' if '?' in address else '?'}limit={limit}{cursor}").json
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = f"&cursor={page['next']}"


def only(log: WatchedLog, address: str) -> dict[str, Any]:
    (item,) = log.get(address).json["items"]
    return dict(item)


def detail(log: WatchedLog) -> dict[str, Any]:
    """The newest payload."""
    return dict(log.get(f"/api/payloads/{newest_key(log)}").json)


def newest_key(log: WatchedLog) -> str:
    return str(only(log, "/api/payloads?limit=1")["key"])
