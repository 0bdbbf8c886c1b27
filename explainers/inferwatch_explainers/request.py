"""Requests for explanations: a predict body of V1 or V2 with options beside its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import orjson

from inferwatch.errors import InvalidOption, InvalidRows, UndecodablePayload
from inferwatch.events import Role
from inferwatch.explanation import Target
from inferwatch.listing import listed
from inferwatch.pictures import check_plot
from inferwatch.rows import Column, Feature, Matrix, Rows, Schema
from inferwatch.wire.decode import decode, inflate
from inferwatch.wire.json_text import BINARY_MARK, split
from inferwatch_explainers.registry import explains_texts
from inferwatch_explainers.reply_shapes import SHAPES
from inferwatch_explainers.request_form import RequestForm
from inferwatch_explainers.texts import texts_schema

DEADLINE_HEADER = "X-Inferwatch-Deadline"
LONGEST_DEADLINE_S = 600.0
MOST_SAMPLES = 1_048_576
_PROTOCOLS = ("v1", "v2", "v2_binary")
_OPTIONS = ("method", "target", "deadline_s", "samples", "immutable", "options", "reply", "plot")


@dataclass(frozen=True, slots=True)
class Options:
    """What a request asks for beside its rows; None where it leaves the choice to the configuration.

    `options` are those of another library's algorithm. `reply` is the shape of the answer, `plot` how it is drawn
    where it is a picture.
    """

    method: str | None = None
    target: Target = None
    deadline_s: float | None = None
    samples: int | None = None
    immutable: tuple[str, ...] | None = None
    options: Mapping[str, Any] | None = None
    reply: str = "native"
    plot: str | None = None


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """Rows to explain (n, d) as `schema` encodes them, the form they were written in, and the options.

    `schema` is the model's, or where texts are explained, that of this request's texts (`texts_schema`), without which
    their values mean nothing. `rows` are those rows as they came.
    """

    values: Matrix
    schema: Schema
    form: RequestForm
    options: Options
    rows: Rows


def read_request(body: bytes, schema: Schema, deadline: str | None = None, *, method: str = "") -> ExplainRequest:
    """Return the request that a body holds; `deadline` is the header's text, which wins over the body.

    `method` is the one that explains where the body names none. Raises `InvalidRows` and `InvalidOption`, each with one
    sentence.
    """
    decoded = decode(body, Role.REQUEST)
    if decoded.rows is None or decoded.protocol not in _PROTOCOLS:
        reason = decoded.fault or ("it is empty" if decoded.rows is None else f"it is one of {decoded.protocol}")
        raise InvalidRows(f"the body is no V1 or V2 request: {reason}")
    if decoded.rows.count == 0:
        raise InvalidRows("the request holds no instances")
    document = _document(body)
    _check_members(document)
    parameters = document.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise InvalidOption(f"parameters is {_shown(parameters)}; it is to be an object")
    given = dict(parameters or {})
    own: dict[str, Any] = {}
    if decoded.protocol != "v1":  # a model may have parameters of its own, and they belong to every call
        own = {name: given.pop(name) for name in list(given) if name not in _OPTIONS}
        own.pop("binary_data_output", None)  # which is about the reply
    options = _options(given, deadline)
    if explains_texts(options.method or method):
        schema = texts_schema(decoded.rows)
    values = _encoded(decoded.rows, schema)
    form = replace(RequestForm.of(document, decoded.rows, schema), parameters=own)
    return ExplainRequest(values, schema, form, options, decoded.rows)


def form_like(body: bytes, schema: Schema) -> RequestForm:
    """Return the form of a V1 or V2 request that a body holds; the plain one where it is another protocol's."""
    decoded = decode(body, Role.REQUEST)
    if decoded.protocol not in _PROTOCOLS or decoded.rows is None:
        return RequestForm.plain(schema)
    return RequestForm.of(_document(body), decoded.rows, schema)


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        data = inflate(body) if body[:2] == b"\x1f\x8b" else body
        document = orjson.loads(split(data)[0] if BINARY_MARK in data else data)
    except (orjson.JSONDecodeError, UndecodablePayload) as fault:
        raise InvalidRows("the body holds NaN or infinity, which JSON has no words for") from fault
    data = document.get("data")
    return data if "specversion" in document and isinstance(data, dict) else document


def _check_members(document: Mapping[str, Any]) -> None:
    """Raise `InvalidOption` for an option beside the rows, or a misspelt `parameters`; others are not ours to judge."""
    for name in document:
        meant = get_close_matches(name, ("parameters", *_OPTIONS), n=1, cutoff=0.75)
        if name != "parameters" and meant == ["parameters"]:
            raise InvalidOption(f"options of a request stand in parameters, and not in {_shown(name)}")
        if name != "parameters" and meant:
            raise InvalidOption(f"{_shown(name)} stands beside the instances; {meant[0]} is an option of parameters")


def _encoded(rows: Rows, schema: Schema) -> Matrix:
    encoded = schema.encode(rows)
    if encoded.missing or encoded.extra:
        wrong = [f"lacks {', '.join(encoded.missing[:8])}"] if encoded.missing else []
        wrong += [f"has the unknown {', '.join(encoded.extra[:8])}"] if encoded.extra else []
        raise InvalidRows(f"an instance {' and '.join(wrong)}; the model's features are {', '.join(schema.names)}")
    columns = {column.name: column for column in rows.columns} if rows.named else {}
    if not all(name in columns for name in schema.names):
        columns = dict(zip(schema.names, rows.columns, strict=True))
    for place, feature in enumerate(schema.features):
        _check(feature, columns[feature.name], encoded.values[:, place])
    return encoded.values


def _check(feature: Feature, column: Column, values: Matrix) -> None:
    """Raise `InvalidRows` for a cell that is missing, of the wrong type, not finite, or a category never seen."""
    categorical = feature.kind == "categorical"
    good = values < len(feature.categories) if categorical else np.isfinite(values)
    if column.values.dtype.kind == "O" and not categorical:
        good &= np.array([isinstance(cell, (int, float)) for cell in column.values.tolist()], dtype=bool)
    if good.all():
        return
    row = int(np.argmin(good))
    cell = column.values.tolist()[row]
    if cell is None or cell != cell:
        reason = "is missing; explanations need every value"
    elif categorical:
        reason = f"is {_shown(cell)}, a category that the reference does not have; it has {listed(feature.categories)}"
    else:
        reason = f"is {_shown(cell)}; a finite number is needed"
    raise InvalidRows(f"{feature.name} of instance {row} {reason}")


def _options(given: Mapping[str, Any], deadline: str | None) -> Options:
    for name in given:
        if name not in _OPTIONS:
            raise InvalidOption(f"parameter {_shown(name)} is unknown; known are {', '.join(_OPTIONS)}")
    method, target, reply = given.get("method"), given.get("target"), given.get("reply")
    if method is not None and not isinstance(method, str):
        raise InvalidOption(f"method is {_shown(method)}; it is to be a text")
    if target is not None and not isinstance(target, (int, str)):
        raise InvalidOption(f"target is {_shown(target)}; it is to be the index of an output, or a label")
    if reply is not None and (not isinstance(reply, str) or reply not in SHAPES):
        raise InvalidOption(f"reply is {_shown(reply)}; known are {', '.join(SHAPES)}")
    seconds = given.get("deadline_s") if deadline is None else _number(deadline)
    return Options(
        method,
        target,
        _deadline(seconds),
        _samples(given.get("samples")),
        _immutable(given.get("immutable")),
        _library_options(given.get("options")),
        reply or "native",
        _plot(given.get("plot")),
    )


def _deadline(value: object) -> float | None:
    if value is None:
        return None
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= LONGEST_DEADLINE_S
    if not good:
        raise InvalidOption(
            f"the deadline is {_shown(value)}; it is to be a number of seconds above 0, at most {LONGEST_DEADLINE_S:g}"
        )
    return float(value)  # type: ignore[arg-type]  # a number, as just seen


def _samples(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= MOST_SAMPLES:
        raise InvalidOption(f"samples is {_shown(value)}; it is to be an integer from 2 to {MOST_SAMPLES}")
    return value


def _immutable(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or any(not isinstance(name, str) for name in value):
        raise InvalidOption(f"immutable is {_shown(value)}; it is to be a list of features")
    return tuple(value)


def _library_options(value: object) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise InvalidOption(f"options is {_shown(value)}; it is to be an object")
    return value


def _plot(value: object) -> str | None:
    return None if value is None else check_plot(value)


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _shown(value: object) -> str:
    return repr(value)[:64]
