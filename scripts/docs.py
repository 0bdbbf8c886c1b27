"""Writes the pages of docs/ that are made from the code: configuration, metrics, and the schemas of what is served.

`scripts/docs.py [DIR]` writes to a directory, docs/ where none is named.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import orjson
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from inferwatch.clock import SystemClock
from inferwatch.metrics import FlowMetrics, LagCollector, SnapshotCollector
from inferwatch.payload_log.ledger import Ledger
from inferwatch.settings import Settings
from inferwatch_cli.checks import Checked
from inferwatch_cli.up import open_up
from inferwatch_explainers.metrics import ExplainMetrics
from inferwatch_logger.access import Application
from inferwatch_logger.replies import FindingItem

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main(out: Path = DOCS) -> list[Path]:
    (out / "schemas").mkdir(parents=True, exist_ok=True)
    pages = {
        "configuration.md": configuration(),
        "metrics.md": metrics(),
        "schemas/finding.json": _json(FindingItem.model_json_schema()),
        "schemas/openapi.json": _json(_openapi()),
    }
    for name, text in pages.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in pages]


def configuration() -> str:
    lines = [
        "# Configuration",
        "",
        "One YAML file for every command. A variable overrides it: `INFERWATCH_INGEST__PAIR_TIMEOUT_S=30` is",
        "`ingest.pair_timeout_s`. Unknown keys are refused; `inferwatch check --config FILE` names all faults at once.",
    ]
    for title, section in _sections("", Settings):
        lines += [
            "",
            f"## {title or 'Top level'}",
            "",
            *_paragraph(section),
            "| key | type | default | |",
            "|---|---|---|---|",
        ]
        lines += [_row(name, field) for name, field in section.model_fields.items()]
    return "\n".join(lines) + "\n"


def _sections(path: str, section: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every section with its path, in the order of the file; of a union, each member with what tells it."""
    yield path, section
    for name, field in section.model_fields.items():
        members = _models(field.annotation)
        shown = f"{path}.{name}" if path else name
        if "tuple" in str(field.annotation):
            shown += "[]"
        for member in members:
            yield from _sections(shown + (f" ({_mark(member)})" if len(members) > 1 else ""), member)


def _mark(member: type[BaseModel]) -> str:
    """What tells a member of a union from the others: its kind, else its first key."""
    kind = member.model_fields.get("kind")
    return f"kind: {get_args(kind.annotation)[0]}" if kind is not None else next(iter(member.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
    members = _models(field.annotation)
    words = " ".join((field.description or (len(members) == 1 and members[0].__doc__) or "").split())
    return f"| `{name}` | {_type(field.annotation)} | {default} | {words} |"


def _default(value: Any) -> str:
    if isinstance(value, BaseModel) or value in ((), None):
        return ""
    return f"`{value}`"


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in get_args(annotation) if part is not type(None)))
    if origin is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {"str": "text", "int": "integer", "float": "number", "bool": "`true` or `false`", "Path": "path"}.get(
        getattr(annotation, "__name__", ""), "value"
    )


def _paragraph(section: type[BaseModel]) -> list[str]:
    return [" ".join(section.__doc__.split()), ""] if section.__doc__ and section is not Settings else []


def metrics() -> str:
    registry = CollectorRegistry()
    FlowMetrics(registry, SystemClock())
    ExplainMetrics(registry)
    registry.register(SnapshotCollector("up", Ledger, lambda: (0, 0), list, []))
    registry.register(LagCollector("", "", dict))
    lines = [
        "# Metrics",
        "",
        "What `/metrics` of `inferwatch up` and `inferwatch store` exports, beside `process_*` and `python_*`. Counters"
        " end in `_total`.",
        "",
        "| metric | type | |",
        "|---|---|---|",
    ]
    families = sorted(registry.collect(), key=lambda family: family.name)
    suffixes = {"counter": "_total", "info": "_info"}
    lines += [
        f"| `{family.name}{suffixes.get(family.type, '')}` | {family.type} | {family.documentation} |"
        for family in families
    ]
    return "\n".join(lines) + "\n"


def _openapi() -> Any:
    """Ask the application for its description, without a socket."""

    async def ask(application: Application) -> bytes:
        body = bytearray()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            body.extend(message.get("body", b""))

        scope = {"type": "http", "method": "GET", "path": "/openapi.json", "query_string": b"", "headers": []}
        await application(scope, receive, send)
        return bytes(body)

    with TemporaryDirectory() as directory, open_up(Checked(Settings(), ()), Path(directory)) as up:
        return orjson.loads(asyncio.run(ask(up.application)))


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


if __name__ == "__main__":
    arguments: Sequence[str] = sys.argv[1:]
    for path in main(*map(Path, arguments)):
        print(path)
