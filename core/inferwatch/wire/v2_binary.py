"""The V2 protocol with binary tensors: a JSON object, and behind it the raw bytes of tensors in their order.

The header that states the JSON's length does not reach a logged response, so the end of the JSON value is looked for.
Each tensor with `parameters.binary_data_size` takes so many bytes of the tail; tensors with `data` may stand between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from inferwatch.errors import UndecodablePayload
from inferwatch.events import Role
from inferwatch.rows import Rows
from inferwatch.wire import v2
from inferwatch.wire.columns import joined
from inferwatch.wire.tensors import Head, columns, raw

MARK: Final = b'"binary_data_size"'
"""Occurs in every body of this protocol."""

_FIRST_LOOK: Final = 4096
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_SCANNER: Final = json.JSONDecoder(strict=False)


def split(data: bytes) -> tuple[bytes, memoryview]:
    """Return the JSON value that a body begins with, and what follows it. Raises `UndecodablePayload`.

    The cost is linear in the JSON; the tail is not looked at.
    """
    space = _SPACE.match(data)
    start = space.end() if space is not None else 0
    size = _FIRST_LOOK
    while True:
        # In Latin-1 a position in the text is one in the bytes, and every byte can be read, the tail's too.
        text = data[start : start + size].decode("latin-1")
        try:
            end = start + _SCANNER.raw_decode(text)[1]
        except (ValueError, RecursionError) as error:
            if start + size >= len(data):
                raise UndecodablePayload(f"the JSON before the binary tensors is broken: {error}") from error
            size *= 16
        else:
            return data[:end], memoryview(data)[end:]


def is_binary(body: Mapping[str, Any], role: Role) -> bool:
    """Return whether a V2 body has tensors in a binary tail."""
    return any(_size(tensor) is not None for tensor in v2.tensors(body, role))


def rows(body: Mapping[str, Any], tail: memoryview, role: Role) -> Rows:
    """Return the tensors as columns. Raises `UndecodablePayload`, also where the tail is cut or longer than stated."""
    found = v2.tensors(body, role)
    sizes = [_checked(tensor, _size(tensor)) for tensor in found]
    stated = sum(size for size in sizes if size is not None)
    if stated != len(tail) and (stated or bytes(tail).strip()):
        raise UndecodablePayload(f"the tensors state {stated} bytes behind the JSON, and {len(tail)} are there")
    return joined(_tensors(found, sizes, tail))


def _tensors(found: Sequence[Mapping[str, Any]], sizes: Sequence[int | None], tail: memoryview) -> Iterator[Rows]:
    position = 0
    for tensor, size in zip(found, sizes, strict=True):
        if size is None:
            yield v2.tensor_rows(tensor)
        else:
            head = Head.of(tensor.get("name", ""), tensor["datatype"], tensor["shape"], tensor.get("parameters"))
            yield columns(head, raw(head, tail[position : position + size]))
            position += size


def _size(tensor: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    parameters = tensor.get("parameters")
    return parameters.get("binary_data_size") if isinstance(parameters, dict) else None


def _checked(tensor: Mapping[str, Any], size: Any) -> int | None:  # noqa: ANN401 - any JSON
    if size is not None and (type(size) is not int or size < 0):
        raise UndecodablePayload(f"tensor {str(tensor.get('name', ''))[:64]!r} has a binary_data_size that is no size")
    return size
