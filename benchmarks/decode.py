"""Decoding: V1 and V2 bodies of numbers to rows, in JSON beside `json` and `orjson` with one NumPy array, and binary.

The peers parse the body and make one float64 array of it, no more: they find neither protocol nor columns, and check
nothing. Bodies hold rows of 16 numbers with 16 digits. Processor time, the best of several tries, in turns.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import orjson

from benchmarks.processes import machine
from inferwatch.events import Role
from inferwatch.wire.decode import decode

SIZES = {"1 KiB": 1024, "10 KiB": 10_240, "1 MiB": 1_048_576}
BINARY = {"1 KiB": 1024, "1 MiB": 1_048_576, "16 MiB": 16_777_216}
WIDTH = 16
TRIES = 25
TRY_S = 0.02


def bodies(size_bytes: int) -> Mapping[str, bytes]:
    """Return a body of each protocol."""
    count = max(1, size_bytes // (20 * WIDTH))
    values = np.random.default_rng(5).normal(size=(count, WIDTH))
    tensor = {"name": "x", "shape": [count, WIDTH], "datatype": "FP64", "data": values.ravel().tolist()}
    return {"V1": orjson.dumps({"instances": values.tolist()}), "V2": orjson.dumps({"inputs": [tensor]})}


def binary(size_bytes: int) -> bytes:
    """Return a V2 body whose tensor lies behind the JSON."""
    values = np.zeros((size_bytes // (8 * WIDTH), WIDTH))
    head = {"name": "x", "shape": list(values.shape), "datatype": "FP64"}
    return orjson.dumps({"inputs": [head | {"parameters": {"binary_data_size": values.nbytes}}]}) + values.tobytes()


def parsed(loads: Callable[[bytes], Any], body: bytes) -> None:
    """Parse a body and make an array of its numbers."""
    found = loads(body)
    np.array(found["instances"] if "instances" in found else found["inputs"][0]["data"], dtype=np.float64)


def best_us(*works: Callable[[], object]) -> list[float]:
    """Return the microseconds of one call of each, the mean of many, in the best of several tries taken in turns."""
    best = [math.inf] * len(works)
    for _ in range(TRIES):
        for index, work in enumerate(works):
            work()
            calls, began = 0, time.process_time()
            while (spent := time.process_time() - began) < TRY_S:
                work()
                calls += 1
            best[index] = min(best[index], 1e6 * spent / calls)
    return best


def main() -> None:
    """Print the table."""
    print(f"Decode: bodies of numbers to rows.\n{machine('numpy', 'orjson', 'pysimdjson')}\n")
    print("| body | inferwatch µs | orjson + NumPy µs | ratio | json + NumPy µs | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for size, size_bytes in SIZES.items():
        for protocol, body in bodies(size_bytes).items():
            ours, quick, slow = best_us(
                partial(decode, body, Role.REQUEST),
                partial(parsed, orjson.loads, body),
                partial(parsed, json.loads, body),
            )
            right = f"{quick:,.0f} | {quick / ours:.1f} | {slow:,.0f} | {slow / ours:.1f}"
            print(f"| {protocol}, {size} | {ours:,.0f} | {right} |", flush=True)
    for size, size_bytes in BINARY.items():
        (ours,) = best_us(partial(decode, binary(size_bytes), Role.REQUEST))
        print(f"| V2 binary, {size} | {ours:,.0f} | | | | |", flush=True)


if __name__ == "__main__":
    main()
