"""The command `erase`: what is asked for, in words, as what is wanted of the payload log."""

from __future__ import annotations

from pathlib import Path

from inferwatch.errors import ConfigError, Fault
from inferwatch.events import Service
from inferwatch.payload_log.erasure import Wanted, erase, with_id, with_value


def erase_payloads(data: Path, model: str, identity: str | None, where: str | None) -> int:
    """Return the number of payloads that were erased.

    Raises `ConfigError` for what is wrongly asked, `PayloadLogError` for a log that is not there, in use or damaged.
    """
    namespace, _, name = model.partition("/")
    if not (namespace and name):
        raise ConfigError([Fault("--model", f"{model!r}: a model is named NS/NAME")])
    return erase(data, Service(namespace, name), _wanted(identity, where), identity)


def _wanted(identity: str | None, where: str | None) -> Wanted:
    if (identity is None) == (where is None):
        raise ConfigError([Fault("", "either --id or --where says what to erase")])
    if identity is not None:
        return with_id(identity)
    column, sign, value = (where or "").partition("=")
    if not (column and sign):
        raise ConfigError([Fault("--where", f"{where!r}: what to erase is COLUMN=VALUE")])
    return with_value(column, value)
