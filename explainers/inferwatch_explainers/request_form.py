"""How a request writes its rows, so that the rows that an explainer makes up reach the predictor written alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import orjson

from inferwatch.rows import Feature, Matrix, Rows, Schema

Protocol = Literal["v1", "v2"]
CellKind = Literal["integer", "number", "boolean", "text"]

_DATATYPES: Mapping[CellKind, str] = {"integer": "INT64", "number": "FP64", "boolean": "BOOL", "text": "BYTES"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A V2 input: its name, datatype and parameters, and the shape of one row of it."""

    name: str
    datatype: str
    row_shape: tuple[int, ...]
    parameters: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Tensor:
        """Return the tensor as it is written in a request, without the size that its bytes had there."""
        parameters = written.get("parameters")
        if parameters is not None:
            parameters = {name: value for name, value in parameters.items() if name != "binary_data_size"} or None
        return cls(written.get("name", ""), written["datatype"], tuple(written["shape"][1:]), parameters)

    @property
    def width(self) -> int:
        """How many columns it holds."""
        return int(np.prod(self.row_shape, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class RequestForm:
    """The protocol of a request, the order of its columns and the type of their cells.

    `order` gives the schema's index of each column; `cells` the type of each, in the same order. V1: `keys` names the
    members where instances are objects, `bare` says that they are single values. V2: `tensors` holds the inputs in
    order, `parameters` what the request carries for the model.
    """

    protocol: Protocol
    order: tuple[int, ...]
    cells: tuple[CellKind, ...]
    keys: tuple[str, ...] | None = None
    bare: bool = False
    member: Literal["instances", "inputs"] = "instances"
    tensors: tuple[Tensor, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def plain(cls, schema: Schema, protocol: Protocol = "v1") -> RequestForm:
        """Return the form without an example: columns as in the schema, numbers as numbers, categories as texts."""
        kinds: list[CellKind] = ["text" if feature.kind == "categorical" else "number" for feature in schema.features]
        return cls("v1", tuple(range(len(kinds))), tuple(kinds)).speaking(protocol, schema)

    @classmethod
    def of(cls, document: Mapping[str, Any], rows: Rows, schema: Schema) -> RequestForm:
        """Return the form of a V1 or V2 request, given as parsed JSON and as the rows that it decodes into."""
        places = {name: index for index, name in enumerate(schema.names)}
        matched = rows.named and any(name in places for name in rows.names)
        order = tuple(places[name] for name in rows.names) if matched else tuple(range(len(rows.columns)))
        cells = tuple(_kind(column.values) for column in rows.columns)
        inputs = document.get("inputs")
        if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict) and "datatype" in inputs[0]:
            return cls("v2", order, cells, tensors=tuple(map(Tensor.of, inputs)))
        member: Literal["instances", "inputs"] = "instances" if "instances" in document else "inputs"
        instances = document[member]
        first = instances[0] if isinstance(instances, list) else instances
        keys = rows.names if isinstance(first, dict) else None
        return cls("v1", order, cells, keys, not isinstance(first, (dict, list)), member)

    @property
    def kind(self) -> Hashable:
        """What two requests have in common whose rows a server takes alike, whatever their values."""
        tensors = tuple((tensor.name, tensor.datatype, tensor.row_shape) for tensor in self.tensors)
        return self.protocol, self.order, self.cells, tensors

    @property
    def texts_alone(self) -> bool:
        """Whether no cell is a number, so that binary tensors would spare nothing."""
        return all(kind == "text" for kind in self.cells)

    def speaking(self, protocol: Protocol, schema: Schema) -> RequestForm:
        """Return the form in another protocol: V1 as lists, V2 as one tensor of numbers, or one tensor a feature."""
        if protocol == self.protocol:
            return self
        straight = np.argsort(self.order)
        cells = tuple(self.cells[index] for index in straight)
        plain = replace(self, protocol=protocol, order=tuple(range(len(cells))), cells=cells, keys=None, tensors=())
        if protocol == "v1":
            return replace(plain, bare=False, member="instances", parameters={})
        if all(kind in ("integer", "number") for kind in cells):
            datatype = "INT64" if all(kind == "integer" for kind in cells) else "FP64"
            return replace(plain, tensors=(Tensor("input-0", datatype, (len(cells),)),))
        tensors = [Tensor(name, _DATATYPES[kind], (1,)) for name, kind in zip(schema.names, cells, strict=True)]
        return replace(plain, tensors=tuple(tensors))

    def write(self, values: Matrix, schema: Schema) -> bytes:
        """Return a request body that asks about rows (r, d) as the schema encodes them."""
        features = schema.features
        columns = [
            column_cells(features[place], kind, values[:, place])
            for place, kind in zip(self.order, self.cells, strict=True)
        ]
        return orjson.dumps(self._v1(columns) if self.protocol == "v1" else self._v2(columns, len(values)))

    def _v1(self, columns: Sequence[list[Any]]) -> dict[str, Any]:
        if self.bare:
            return {self.member: columns[0]}
        rows = zip(*columns, strict=True)
        if self.keys is None:
            return {self.member: list(rows)}
        return {self.member: [dict(zip(self.keys, row, strict=True)) for row in rows]}

    def _v2(self, columns: Sequence[list[Any]], count: int) -> dict[str, Any]:
        inputs, start = [], 0
        for tensor in self.tensors:
            part = columns[start : start + tensor.width]
            start += tensor.width
            data = part[0] if len(part) == 1 else [cell for row in zip(*part, strict=True) for cell in row]
            whole = not tensor.datatype.startswith(("INT", "UINT")) or all(type(column[0]) is int for column in part)
            written = {
                "name": tensor.name,
                "shape": [count, *tensor.row_shape],
                "datatype": tensor.datatype if whole else "FP64",
                "data": data,
            }
            inputs.append(written if tensor.parameters is None else written | {"parameters": tensor.parameters})
        return {"inputs": inputs, **({"parameters": self.parameters} if self.parameters else {})}


def _kind(values: np.ndarray[Any, Any]) -> CellKind:
    if values.dtype.kind != "O":
        return {"b": "boolean", "i": "integer", "u": "integer"}.get(values.dtype.kind, "number")  # type: ignore[return-value]  # one of the four words
    cell = next((cell for cell in values.tolist() if cell is not None), None)
    if isinstance(cell, bool):
        return "boolean"
    if isinstance(cell, int):
        return "integer"
    return "number" if isinstance(cell, float) else "text"


def column_cells(feature: Feature, kind: CellKind, values: Matrix) -> list[Any]:
    """Return one column as JSON values; integers only where every value is one, so that no value is changed."""
    if feature.kind == "categorical":
        written = [_category(text, kind) for text in feature.categories]
        return [written[code] for code in values.astype(np.int64).tolist()]
    if kind == "boolean" and np.isin(values, (0.0, 1.0)).all():
        return list(values.astype(bool).tolist())
    if kind == "integer" and (values == np.floor(values)).all():
        return list(values.astype(np.int64).tolist())
    return list(values.tolist())


def _category(text: str, kind: CellKind) -> str | int | float | bool:
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    for parse in (int, float) if kind in ("integer", "number") else ():
        try:
            return parse(text)
        except ValueError:
            continue
    return text
