"""A peer in an environment of its own, asked by files of arrays."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from inferwatch.rows import Matrix


class ArrayChild:
    """A script under another interpreter that reads the path of an `.npz` a line and writes one line for each."""

    def __init__(self, python: Path, script: str, *arguments: str) -> None:
        self._child = subprocess.Popen(
            [str(python), str(Path(__file__).with_name(script)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._script = script
        self._folder = tempfile.TemporaryDirectory()

    def ask(self, **arrays: Matrix | bool) -> str:
        """Return the line that the script answers. Raises `RuntimeError` where it ended instead."""
        path = Path(self._folder.name, "arrays.npz")
        np.savez(path, **arrays)  # type: ignore[arg-type]
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{path}\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"{self._script} gave no answer, exit status {self._child.wait()}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._child.communicate()
        self._folder.cleanup()
