"""Sends rows to the model server as clients do: small requests, V1 and V2 by turns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
import pandas as pd

from inferwatch.errors import InferwatchError

MOST_ROWS_A_REQUEST = 8


@dataclass(frozen=True, slots=True)
class Sent:
    """One answered request: its id, and which rows of the phase it carried."""

    id: str
    first: int
    rows: int


async def send(url: str, model: str, phase: str, rows: pd.DataFrame, seed: int = 0) -> AsyncIterator[Sent]:
    """Send every row, in order, and yield each request once answered. Raises `InferwatchError` unless that is 200."""
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(url) as session:
        for number, (first, part) in enumerate(_requests(rows, seed)):
            sent = Sent(f"{phase}-{number:04d}", first, len(part))
            path, body = _v1(model, part) if number % 2 == 0 else _v2(model, part)
            async with session.post(path, json=body, headers={**headers, "Ce-Id": sent.id}) as response:
                if response.status != 200:
                    raise InferwatchError(
                        f"the model server answered {response.status}: {(await response.text())[:200]}"
                    )
                await response.read()
            yield sent


def _requests(rows: pd.DataFrame, seed: int) -> Iterator[tuple[int, pd.DataFrame]]:
    random = np.random.default_rng(seed)
    first = 0
    while first < len(rows):
        count = int(random.integers(1, MOST_ROWS_A_REQUEST + 1))
        yield first, rows.iloc[first : first + count]
        first += count


def _v1(model: str, rows: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    return f"/v1/models/{model}:predict", {"instances": rows.to_numpy().tolist()}


def _v2(model: str, rows: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    inputs = [
        {"name": name, "shape": [len(rows)], "datatype": "FP64", "data": rows[name].tolist()} for name in rows.columns
    ]
    return f"/v2/models/{model}/infer", {"inputs": inputs}
