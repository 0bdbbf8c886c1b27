"""The child process that runs old libraries in an environment of their own, and asks back what the model predicts."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, PredictorTimeout
from inferwatch_explainers import legacy
from inferwatch_explainers.legacy.frames import read_message, write_message

Ask = Callable[[Any, str], NDArray[Any]]
"""Rows (r, d), or texts, and whether `classes` (r,) or `scores` (r, k) are wanted -> outputs."""


class ChildProcess:
    """Runs algorithms in another Python, one call at a time; started by the first call, and again after it died.

    `python` is the interpreter of the environment that holds the libraries.
    """

    def __init__(self, python: Path) -> None:
        self._python = python
        self._calls = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: deque[str] = deque(maxlen=20)

    def call(self, arguments: Mapping[str, Any], ask: Ask, timeout_s: float | None) -> Mapping[str, Any]:
        """Return what the algorithm named by `arguments["method"]` says, within `timeout_s`, waiting included.

        Raises `InvalidOption` with the library's own words where it cannot, `PredictorTimeout` where it is too slow,
        and what `ask` raises.
        """
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._calls.acquire(timeout=-1 if timeout_s is None else timeout_s):
            raise PredictorTimeout(f"{arguments['method']} is still at work on another explanation")
        try:
            return self._answered(arguments, ask, ends)
        finally:
            self._calls.release()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                _closed(pipe)

    def _answered(self, arguments: Mapping[str, Any], ask: Ask, ends: float | None) -> Mapping[str, Any]:
        process = self._started()
        overdue = threading.Event()
        timer = threading.Timer(
            max(ends - time.monotonic(), 0) if ends is not None else 0, self._end, (process, overdue)
        )
        if ends is not None:
            timer.start()
        try:
            answer, refused = self._conversation(process, arguments, ask)
        except (OSError, ValueError) as fault:
            self.close()
            if overdue.is_set():
                raise PredictorTimeout(f"{arguments['method']} was not done in time") from fault
            last = self._errors[-1] if self._errors else str(fault)
            raise InvalidOption(f"the process that runs {arguments['method']} ended: {last[:200]}") from fault
        finally:
            timer.cancel()
        if refused is not None:
            raise refused
        if "fault" in answer:
            raise InvalidOption(f"{arguments['method']} cannot explain this: {answer['fault'][:300]}")
        result: Mapping[str, Any] = answer["result"]
        return result

    def _conversation(
        self, process: subprocess.Popen[bytes], arguments: Mapping[str, Any], ask: Ask
    ) -> tuple[Mapping[str, Any], Exception | None]:
        """Return the last word, and why the model could not be asked, where that is so. Raises where the pipes end."""
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        refused: Exception | None = None
        write_message(process.stdin, arguments)
        while (message := read_message(process.stdout)) is not None:
            if "rows" not in message:
                return message, refused
            reply: dict[str, Any] = {}
            try:
                reply["outputs"] = ask(message["rows"], message["as"])
            except Exception as fault:  # noqa: BLE001 - raised again once the child has let go
                refused = fault
            write_message(process.stdin, reply)
        raise ValueError("it ended without an answer")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        try:
            process = subprocess.Popen(  # noqa: S603 - the configured interpreter, and our own program
                [str(self._python), "-I", str(Path(legacy.__file__).parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as fault:
            raise InvalidOption(f"{self._python} does not run: {fault.strerror}") from fault
        self._errors.clear()
        threading.Thread(target=self._keep_errors, args=(process.stderr,), daemon=True).start()
        self._process = process
        return process

    def _keep_errors(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                if text := line.decode("utf-8", "replace").strip():
                    self._errors.append(text)

    @staticmethod
    def _end(process: subprocess.Popen[bytes], overdue: threading.Event) -> None:
        overdue.set()
        process.kill()


def _closed(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with suppress(OSError):  # what it held went to a process that is gone
            pipe.close()
