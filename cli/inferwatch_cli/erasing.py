"""The command `erase`: what is asked for, in words, as what is wanted of the payload log."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from inferwatch.errors import ConfigError, Fault
from inferwatch.events import Service
from inferwatch.payload_log.erasure import Wanted, WithValue, erase, with_id

_MOST_NAMED: Final = 20


def erase_payloads(data: Path, model: str, identity: str | None, where: str | None) -> int:
    """Return the number of payloads that were erased.

    Raises `ConfigError` for what is wrongly asked, such as a column that there is not, `PayloadLogError` for a log that
    is not there, in use or damaged.
    """
    namespace, _, name = model.partition("/")
    if not (namespace and name):
        raise ConfigError([Fault("--model", f"{model!r}: a model is named NS/NAME")])
    wanted = _wanted(identity, where)
    count = erase(data, Service(namespace, name), wanted, identity)
    if isinstance(wanted, WithValue) and wanted.columns and wanted.column not in wanted.columns:
        raise ConfigError(
            [Fault("--where", f"no payload of {model} has a column {wanted.column!r}; {_some(wanted.columns)}")]
        )
    return count


def _wanted(identity: str | None, where: str | None) -> Wanted:
    if (identity is None) == (where is None):
        raise ConfigError([Fault("", "either --id or --where says what to erase")])
    if identity is not None:
        return with_id(identity)
    column, sign, value = (where or "").partition("=")
    if not (column and sign):
        raise ConfigError([Fault("--where", f"{where!r}: what to erase is COLUMN=VALUE")])
    return WithValue(column, value)


def _some(columns: Collection[str]) -> str:
    named = ", ".join(sorted(columns)[:_MOST_NAMED])
    return f"there are {named}" + (f" and {len(columns) - _MOST_NAMED} others" if len(columns) > _MOST_NAMED else "")
