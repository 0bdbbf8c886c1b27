"""The page at `/docs`: every route and every shape of `/openapi.json`, readable without network or script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JsonSchema = Mapping[str, Any]

_REFERENCE = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a field of a shape. `type` is in words; `shapes` are the shapes that it names."""

    name: str
    type: str
    shapes: Sequence[str]
    required: bool
    about: str


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path; `takes` and `gives` are the bodies."""

    method: str
    path: str
    about: str
    parameters: Sequence[Field]
    takes: Field | None
    gives: Field | None


@dataclass(frozen=True, slots=True)
class Shape:
    """A named JSON object."""

    name: str
    about: str
    fields: Sequence[Field]


def routes(document: JsonSchema) -> list[Route]:
    """Return the routes of an OpenAPI document, in its order."""
    return [
        Route(
            method.upper(),
            path,
            operation.get("description") or operation.get("summary", ""),
            [_field(it["name"], it["schema"], it.get("required", False), it) for it in operation.get("parameters", ())],
            _body(operation.get("requestBody", {})),
            _body(operation["responses"].get("200", {})),
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def shapes(document: JsonSchema) -> list[Shape]:
    """Return the named shapes of an OpenAPI document, by name."""
    named = document.get("components", {}).get("schemas", {})
    return [
        Shape(
            name,
            schema.get("description", ""),
            [
                _field(field, about, field in schema.get("required", ()), about)
                for field, about in schema.get("properties", {}).items()
            ],
        )
        for name, schema in sorted(named.items())
    ]


def _body(body: JsonSchema) -> Field | None:
    for content in body.get("content", {}).values():
        if content.get("schema"):
            return _field("", content["schema"], True, body)
    return None


def _field(name: str, schema: JsonSchema, required: bool, about: JsonSchema) -> Field:
    return Field(name, _words(schema), list(dict.fromkeys(_named(schema))), required, about.get("description", ""))


def _words(schema: JsonSchema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REFERENCE)
    for joint in ("anyOf", "oneOf", "allOf"):
        if joint in schema:
            return " or ".join(_words(option) for option in schema[joint])
    if "enum" in schema:
        return " or ".join(f"“{value}”" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_words(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_words(schema['additionalProperties'])}"
    limits = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([str(schema.get("format") or schema.get("type") or "any JSON"), *limits])


def _named(schema: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield str(schema["$ref"]).removeprefix(_REFERENCE)
        for part in schema.values():
            yield from _named(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _named(part)
