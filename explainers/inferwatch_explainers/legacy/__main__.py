"""The child: answers one call after the other, asking back for what the model predicts."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

from frames import (  # type: ignore[import-not-found]  # beside this file, which runs by itself
    read_message,
    write_message,
)

Algorithm = Callable[[dict[str, Any], Callable[..., Any]], dict[str, Any]]


class Stopped(Exception):
    """The model could not be asked; whoever asked knows why."""


def main() -> None:
    """Answer calls until the pipe ends. What libraries print goes where errors go."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls = sys.stdin.buffer
    while (call := read_message(calls)) is not None:
        write_message(answers, _answer(call, calls, answers))


def _answer(call: dict[str, Any], calls: BinaryIO, answers: BinaryIO) -> dict[str, Any]:
    def ask(rows: Any, how: str) -> Any:  # noqa: ANN401 - rows or texts
        write_message(answers, {"rows": rows, "as": how})
        reply = read_message(calls)
        if reply is None or "outputs" not in reply:
            raise Stopped
        return reply["outputs"]

    try:
        return {"result": _algorithm(call["method"])(call, ask)}
    except Stopped:
        return {"stopped": True}
    except Exception as fault:  # noqa: BLE001 - a library may raise anything; the caller is told
        traceback.print_exc()
        return {"fault": f"{type(fault).__name__}: {fault}"}


def _algorithm(method: str) -> Algorithm:
    library, name = method.split(".")
    if library == "alibi":
        from of_alibi import ALGORITHMS  # type: ignore[import-not-found]
    elif library == "aix360":
        from of_aix360 import ALGORITHMS  # type: ignore[import-not-found]
    else:
        raise ValueError(f"{library} is not adapted")
    found: Algorithm = ALGORITHMS[name]
    return found


if __name__ == "__main__":
    main()
