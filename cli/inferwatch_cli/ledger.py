"""The command `ledger`: the account of every event, of a running service or of the queue files of a directory."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import orjson

from inferwatch.delivery.account import total
from inferwatch.delivery.spool import spooled_accounts
from inferwatch.errors import ConfigError, Fault, InferwatchError

_TIMEOUT_S = 10.0
_BESIDE = ("clamped", "unlogged")
"""What an account tells beside its sum."""


def ledger_of(url: str, token_file: Path | None) -> dict[str, Any]:
    """Return the ledger of a running service. Raises `InferwatchError` where it cannot be had."""
    if not url.startswith(("http://", "https://")):
        raise ConfigError([Fault("--url", f"{url!r} is no URL of a service; allowed is http://host[:port]")])
    where = f"{url.rstrip('/')}/api/ledger"
    try:
        headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"} if token_file else {}
        with urlopen(Request(where, headers=headers), timeout=_TIMEOUT_S) as reply:  # noqa: S310 - checked above
            found = orjson.loads(reply.read())
    except HTTPError as error:
        with error:
            raise InferwatchError(f"{where} answered {error.code}") from error
    except URLError as error:
        raise InferwatchError(f"no ledger from {where}: {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InferwatchError(f"no ledger from {where}: {error}") from error
    if not isinstance(found, dict):
        raise InferwatchError(f"no ledger from {where}: not a JSON object")
    return found


def ledger_in(spool: Path) -> dict[str, Any]:
    """Return the ledger of a directory of queue files: `capture`, and `sinks` one by one."""
    accounts = spooled_accounts(spool)
    return {
        "capture": total(accounts.values()).as_dict(),
        "sinks": {name: account.as_dict() for name, account in accounts.items()},
    }


def lines(ledger: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ledger as text: each account on a line, as a sum."""
    for name, account in ledger.items():
        if name == "sinks":
            yield from (f"  {sink}: {_sum(one)}" for sink, one in account.items())
        else:
            yield f"{name}: {_sum(account)}"


def printed(ledger: Mapping[str, Any]) -> str:
    """Return the ledger as JSON."""
    return orjson.dumps(ledger, option=orjson.OPT_INDENT_2).decode()


def _sum(account: Mapping[str, Any]) -> str:
    (first, whole), *parts = account.items()
    return f"{first} {whole} = " + " + ".join(_part(name, value) for name, value in parts if name not in _BESIDE)


def _part(name: str, value: int | Mapping[str, int]) -> str:
    if isinstance(value, Mapping):
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(value.items()))
        return f"{name} {sum(value.values())}" + (f" ({reasons})" if reasons else "")
    return f"{name} {value}"
