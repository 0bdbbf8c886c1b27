"""Many names as one short text."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str], most: int = 8, between: str = ", ") -> str:
    """Return the names as one text, dots in place of those beyond the first `most`.

    >>> listed(["age", "sex", "job"], most=2)
    'age, sex, ...'
    """
    return between.join([*names[:most], "..."] if len(names) > most else names)
