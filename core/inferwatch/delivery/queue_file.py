"""The file of a queue: a ring of records behind a header, mapped into memory, whose every change is atomic.

A kill -9 stops the process between two machine instructions, and the page cache keeps what was stored before. So a
change becomes visible by one store, its last: of one byte (the active slot, a record's state) or of eight aligned ones
(the tail). All space is allocated when the file is made, because a store into a mapped hole of a full disk is a SIGBUS.

::

    0      magic
    8      which slot is active
    16     tail: the position behind the newest record
    32     the names of up to 8 sinks, 256 bytes each: length, UTF-8
    4096   slot 0, slot 1: head, capacity, the counts of 8 sinks, CRC-32
    8192   the ring

Positions count bytes written ever; a position's place in the ring is its remainder by the capacity. Everything is a
multiple of 8. Counts are of records that left the ring and of events that never entered: delivered, adrift (left while
they were being sent), and dropped by reason. Integers are in the machine's byte order.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zlib import crc32

from inferwatch.delivery.account import REASONS
from inferwatch.errors import QueueFileError

logger = logging.getLogger(__name__)

MAX_SINKS: Final = 8
COUNTS: Final = 8
"""Counts a sink: delivered, adrift, then one for each reason."""
DELIVERED: Final = 0
ADRIFT: Final = 1
FIRST_REASON: Final = 2
MIN_BYTES: Final = 65_536

_MAGIC: Final = b"IWQUEUE1"
_ACTIVE: Final = 8
_TAIL: Final = 16
_NAMES: Final = 32
_NAME_BYTES: Final = 256
_SLOTS: Final = 4096
_SLOT_BYTES: Final = 2048
RING: Final = 8192
_MAPPED_BYTES: Final = 4_096
"""From here on a system call costs less than to fill fresh pages twice over."""
_ZEROS: Final = bytes(32_768)
_SLOT: Final = struct.Struct(f"={2 + MAX_SINKS * COUNTS}Q")

assert FIRST_REASON + len(REASONS) <= COUNTS  # noqa: S101 - of constants


class Damage(Exception):
    """The file is not what a queue writes; the message is a clause that says what is wrong."""


class QueueFile:
    """A mapped queue file: head, tail and counts as attributes.

    Changes of `head`, `capacity` and `counts` take effect, all at once, with `commit`; the tail with `advance`. Raises
    `Damage` for a header that makes no sense.
    """

    def __init__(self, mapped: mmap.mmap, descriptor: int) -> None:
        self.bytes = mapped
        self._descriptor = descriptor
        self._stored = 0
        if len(mapped) < RING or mapped[: len(_MAGIC)] != _MAGIC:
            raise Damage("it was not written by this version of inferwatch")
        self.refresh()
        self._tail = memoryview(mapped)[_TAIL : _TAIL + 8].cast("Q")

    def refresh(self) -> None:
        """Read the header anew."""
        at = _SLOTS + (self.bytes[_ACTIVE] & 1) * _SLOT_BYTES
        slot = self.bytes[at : at + _SLOT.size]
        if self.bytes[at + _SLOT.size : at + _SLOT.size + 4] != crc32(slot).to_bytes(4, "little"):
            raise Damage("its header has a wrong checksum")
        self.head: int
        self.capacity: int
        self.counts: list[int]
        self.head, self.capacity, *self.counts = _SLOT.unpack(slot)
        if self.head % 8 or self.capacity % 8 or not 0 < self.capacity <= len(self.bytes) - RING:
            raise Damage("its header names an impossible size")
        (tail,) = struct.unpack_from("=Q", self.bytes, _TAIL)
        self.tail: int = max(tail, self.head)  # before it only where the restart of an empty ring was cut short
        if tail % 8 or tail > self.head + self.capacity:
            raise Damage("its end is farther from its beginning than its size")

    def write(self, at: int, *parts: bytes) -> None:
        """Store behind the tail, at an offset of the file. Raises `OSError` where the system does.

        Pages are stored into for the first time by a system call, many at once, and large parts always: a mapped store
        into a fresh page may keep ext4 busy for 20 ms, and 256 page faults cost more than a copy of 1 MiB.
        """
        size = sum(map(len, parts))
        if size >= _MAPPED_BYTES:
            self._call(parts, at)
            return
        if at + size > self._stored:
            free = min(self.head + self.capacity - self.tail, RING + self.capacity - at)
            self._call((_ZEROS[:free],), at)
        self.bytes[at : at + size] = b"".join(parts)

    def _call(self, parts: Sequence[bytes], at: int) -> None:
        size = sum(map(len, parts))
        written = os.pwritev(self._descriptor, parts, at)
        while written < size:  # a signal, or the limit of one call
            written += os.pwrite(self._descriptor, b"".join(parts)[written:], at + written)
        self._stored = max(self._stored, at + size)

    def advance(self, tail: int) -> None:
        """Make everything before `tail` part of the ring."""
        self._tail[0] = tail
        self.tail = tail

    def commit(self) -> None:
        """Make the header what the attributes say."""
        slot = _SLOT.pack(self.head, self.capacity, *self.counts)
        other = 1 - (self.bytes[_ACTIVE] & 1)
        at = _SLOTS + other * _SLOT_BYTES
        self.bytes[at : at + _SLOT.size + 4] = slot + crc32(slot).to_bytes(4, "little")
        self.bytes[_ACTIVE] = other

    def names(self) -> list[str]:
        """Return the names of the sinks, "" where there is none."""
        return [self._name(_NAMES + index * _NAME_BYTES) for index in range(MAX_SINKS)]

    def index_of(self, name: str) -> int:
        """Return the number of a sink; it gets one where it has none. Raises `QueueFileError` when all are taken."""
        names = self.names()
        if name in names:
            return names.index(name)
        encoded = name.encode()
        if not 0 < len(encoded) < _NAME_BYTES:
            raise QueueFileError(f"the name of the sink {name[:64]!r} has {len(encoded)} bytes; allowed are 1 to 255")
        if "" not in names:
            raise QueueFileError(f"the queue file knows {MAX_SINKS} sinks already, no room for {name}")
        at = _NAMES + names.index("") * _NAME_BYTES
        self.bytes[at + 1 : at + 1 + len(encoded)] = encoded
        self.bytes[at] = len(encoded)
        return names.index("")

    def close(self) -> None:
        """Unmap and unlock the file."""
        self.unmap()
        os.close(self._descriptor)

    def unmap(self) -> None:
        """Unmap the file; it stays locked."""
        self._tail.release()
        self.bytes.close()

    def _name(self, at: int) -> str:
        return self.bytes[at + 1 : at + 1 + self.bytes[at]].decode(errors="replace")


def open_file(path: Path, size_bytes: int) -> QueueFile:
    """Return the queue file at `path`, locked for this process; a new one of `size_bytes` where there is none.

    A file that no queue wrote is renamed, with a warning, and a new one made. One that holds events keeps its size.
    Raises `BlockingIOError` where another process has it, and what else the system says against it as `OSError`.
    """
    while True:
        descriptor = _locked(path)
        try:
            return _prepared(descriptor, size_bytes)
        except Damage as damage:
            set_aside(path, damage)
            os.close(descriptor)
        except BaseException:
            if os.fstat(descriptor).st_size == 0:
                path.unlink(missing_ok=True)
            os.close(descriptor)
            raise


def view_file(path: Path) -> tuple[QueueFile, bool]:
    """Return the queue file for reading, and whether a process has it. Raises `Damage` or `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        owned = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        except BlockingIOError:
            owned = True
        if os.fstat(descriptor).st_size < RING:
            raise Damage("it is too short")
        return QueueFile(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), descriptor), owned
    except BaseException:
        os.close(descriptor)
        raise


def set_aside(path: Path, damage: Damage) -> None:
    """Rename a file that cannot be used, so that nothing in it is lost."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    path.rename(aside)
    logger.warning("the queue file %s cannot be used: %s; it is kept as %s, and a new one begun", path, damage, aside)


def _locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process set it aside between the two calls


def _prepared(descriptor: int, size_bytes: int) -> QueueFile:
    if not any(os.pread(descriptor, RING, 0)):  # new, or killed before it was more
        _allocate(descriptor, size_bytes)
        os.pwrite(descriptor, _header(size_bytes), 0)
    _allocate(descriptor, os.fstat(descriptor).st_size)  # a copy of a file may have holes
    file = QueueFile(mmap.mmap(descriptor, 0), descriptor)
    if file.head < file.tail or file.capacity == _capacity(size_bytes):
        return file
    return _resized(file, descriptor, size_bytes)


def _resized(file: QueueFile, descriptor: int, size_bytes: int) -> QueueFile:
    """Give an empty ring another size; there is enough of the file at every moment."""
    if size_bytes > len(file.bytes):
        file.unmap()
        _allocate(descriptor, size_bytes)
        file = QueueFile(mmap.mmap(descriptor, 0), descriptor)
    file.capacity = _capacity(size_bytes)
    file.commit()
    file.unmap()
    os.ftruncate(descriptor, size_bytes)
    return QueueFile(mmap.mmap(descriptor, 0), descriptor)


def _capacity(size_bytes: int) -> int:
    return (size_bytes - RING) & ~7


def _allocate(descriptor: int, size_bytes: int) -> None:
    if not hasattr(os, "posix_fallocate"):
        raise OSError("this system cannot allocate a file's space beforehand")
    os.posix_fallocate(descriptor, 0, size_bytes)


def _header(size_bytes: int) -> bytes:
    slot = _SLOT.pack(0, _capacity(size_bytes), *[0] * (MAX_SINKS * COUNTS))
    return _MAGIC.ljust(_SLOTS, b"\0") + (slot + crc32(slot).to_bytes(4, "little")).ljust(RING - _SLOTS, b"\0")
