"""The records of a queue file: how they lie in the ring, and what their states say of every sink's events."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from zlib import crc32

from inferwatch.delivery.account import REASONS, Account
from inferwatch.delivery.queue_file import (
    ADRIFT,
    COUNTS,
    DELIVERED,
    FIRST_REASON,
    MAX_SINKS,
    RING,
    Damage,
    QueueFile,
    open_file,
    set_aside,
    view_file,
)
from inferwatch.errors import QueueFileError

WAITING: Final = 1
SENT: Final = 2
DONE: Final = 3
"""A state from here on is `DONE` plus the number of the count it belongs to."""
REASON: Final = {reason: FIRST_REASON + number for number, reason in enumerate(REASONS)}
QUEUE_FULL: Final = REASON["queue_full"]
_LOOKS: Final = 100
"""So often a file is read that changes meanwhile, before it counts as damaged."""

HEAD: Final = struct.Struct("=IIdI4x")
"""Length without padding, CRC-32, when it came, length of the attributes. Behind it: 8 states, attributes, body."""
CONTENT: Final = HEAD.size + MAX_SINKS
LENGTH: Final = struct.Struct("=I")
_TOP: Final = struct.Struct(f"=I{HEAD.size - LENGTH.size}x{MAX_SINKS}s")
_SEALED: Final = struct.Struct("=QdI")
TO_THE_START: Final = 0xFFFFFFFF
"""Instead of a length: what follows lies at the start of the ring."""
_NOBODYS: Final = bytes(MAX_SINKS)


def accounts(path: Path) -> dict[str, Account]:
    """Return the account of every sink of a queue file, by its name, whether or not a process uses it.

    Raises `QueueFileError` for a file that cannot be read.
    """
    try:
        file, owned = view_file(path)
    except (OSError, Damage) as fault:
        raise QueueFileError(f"cannot read the queue file {path}: {fault}") from fault
    try:
        return _looked_at(file, owned)
    except Damage as damage:
        raise QueueFileError(f"cannot read the queue file {path}: {damage}") from damage
    finally:
        file.close()


def _looked_at(file: QueueFile, owned: bool) -> dict[str, Account]:
    for _ in range(_LOOKS):
        with suppress(Damage):  # or its owner changed it under our eyes
            return _seen(file, owned)
    return _seen(file, owned)


def _seen(file: QueueFile, owned: bool) -> dict[str, Account]:
    file.refresh()
    found = list(records(file))
    file.refresh()  # what has left the ring meanwhile is counted there
    waiting, sent, settled = census(states for position, states in found if position >= file.head)
    if not owned:
        waiting = [sum(both) for both in zip(waiting, sent, strict=True)]
        sent = [0] * MAX_SINKS
        _count_lost(file)
    return {
        name: account_of(file.counts, settled, index, waiting[index], sent[index], 0)
        for index, name in enumerate(file.names())
        if name
    }


def recovered(path: Path, size_bytes: int) -> tuple[QueueFile, list[int], list[int]]:
    """Return the queue file at `path`, how many of its records wait for each sink, and what became of the others.

    What was being sent waits again, unless it left the ring: that is lost. Raises as `FileQueue` does.
    """
    try:
        while True:
            file = open_file(path, size_bytes)
            try:
                waiting, _, settled = census(restored(file))
            except Damage as damage:
                set_aside(path, damage)
                file.close()
                continue
            _count_lost(file)
            file.commit()
            return file, waiting, settled
    except BlockingIOError:
        raise
    except OSError as error:
        raise QueueFileError(f"cannot make the queue file {path}: {error}") from error


def _count_lost(file: QueueFile) -> None:
    """Count as dropped what had left the ring while it was being sent, by a process that is gone."""
    for index in range(MAX_SINKS):
        file.counts[index * COUNTS + QUEUE_FULL] += file.counts[index * COUNTS + ADRIFT]
        file.counts[index * COUNTS + ADRIFT] = 0


def census(found: Iterable[bytes]) -> tuple[list[int], list[int], list[int]]:
    """Return how many of these records wait for each sink, are being sent, and what became of the others."""
    waiting, sent, settled = [0] * MAX_SINKS, [0] * MAX_SINKS, [0] * (MAX_SINKS * COUNTS)
    for states, count in Counter(found).items():  # of which there are few kinds
        for index, state in enumerate(states):
            if state >= DONE:
                settled[index * COUNTS + state - DONE] += count
            elif state == SENT:
                sent[index] += count
            elif state == WAITING:
                waiting[index] += count
    return waiting, sent, settled


def account_of(
    counts: Sequence[int], settled: Sequence[int], index: int, waiting: int, sent: int, late: int
) -> Account:
    """Return a sink's account: the file's `counts`, those of records in the ring, and `late` ones never written."""
    whole = [counts[at] + settled[at] for at in range(index * COUNTS, (index + 1) * COUNTS)]
    dropped = {reason: whole[at] for reason, at in REASON.items()}
    dropped["shutdown"] += late
    return Account.of(whole[DELIVERED], waiting, sent + whole[ADRIFT], dropped)


def records(file: QueueFile) -> Iterator[tuple[int, bytes]]:
    """Yield position and states of every record of the ring, oldest first, and of a gap at its end."""
    position, tail = file.head, file.tail
    while position < tail:
        size, states = top(file, position)
        least = CONTENT if any(states) else 8
        room = min(tail - position, file.capacity - position % file.capacity)
        if not least <= size <= room or max(states) >= DONE + COUNTS:
            raise Damage("its records do not follow one another")
        yield position, states
        position += size


def top(file: QueueFile, position: int) -> tuple[int, bytes]:
    """Return how many bytes of the ring a record takes, and its states; what is left at the ring's end is nobody's."""
    place = position % file.capacity
    rest = file.capacity - place
    if rest < CONTENT:
        return rest, _NOBODYS
    length, states = _TOP.unpack_from(file.bytes, RING + place)
    return (rest, _NOBODYS) if length == TO_THE_START else (padded(length), states)


def restored(file: QueueFile) -> Iterator[bytes]:
    """Let what was being sent wait again; yield the states of every record."""
    for position, states in records(file):
        if SENT in states:
            at = RING + position % file.capacity + HEAD.size
            states = states.replace(bytes([SENT]), bytes([WAITING]))
            for index, state in enumerate(states):
                file.bytes[at + index] = state
        yield states


def seal(position: int, since_s: float, attributes: bytes, data: bytes) -> int:
    """Return the checksum of a record."""
    return crc32(data, crc32(attributes, crc32(_SEALED.pack(position, since_s, len(attributes)))))


def padded(length: int) -> int:
    """Return how many bytes of the ring a record of this length takes."""
    return (length + 7) & ~7
