"""The V2 protocol with binary tensors: a JSON object, and behind it the raw bytes of tensors in their order.

The header that states the JSON's length does not reach a logged response, so the end of the JSON value is looked for.
Each tensor with `parameters.binary_data_size` takes so many bytes of the tail; tensors with `data` may stand between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inferwatch.errors import UndecodablePayload
from inferwatch.events import Role
from inferwatch.rows import Rows
from inferwatch.wire import v2
from inferwatch.wire.columns import joined
from inferwatch.wire.tensors import Head, columns, raw


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
