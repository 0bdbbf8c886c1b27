"""A directory of queue files, one for each process that captures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from inferwatch.delivery.account import Account, total
from inferwatch.delivery.file_queue import FileQueue
from inferwatch.delivery.queue import WhenFull
from inferwatch.delivery.queue_records import accounts
from inferwatch.errors import QueueFileError

_MOST_FILES: Final = 256


def open_spool(
    directory: Path, size_bytes: int, sinks: Sequence[str], when_full: WhenFull = "drop_oldest"
) -> FileQueue:
    """Return the first queue file of the directory that no process has, made where there is none.

    Raises `QueueFileError` where there can be no such file.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise QueueFileError(f"cannot make the directory {directory}: {error}") from error
    for number in range(_MOST_FILES):
        try:
            return FileQueue(directory / f"{number}.queue", size_bytes, sinks, when_full)
        except BlockingIOError:
            continue
    raise QueueFileError(f"{_MOST_FILES} processes have a queue file in {directory} already")


def spooled_accounts(directory: Path) -> dict[str, Account]:
    """Return the account of every sink over all queue files of the directory, in use or not.

    Raises `QueueFileError` for a directory without any, or a file that cannot be read.
    """
    found: dict[str, list[Account]] = {}
    for path in sorted(directory.glob("*.queue")):
        for name, account in accounts(path).items():
            found.setdefault(name, []).append(account)
    if not found:
        raise QueueFileError(f"no queue file in {directory}")
    return {name: total(several) for name, several in found.items()}
