"""Payloads and findings as pandas DataFrames, read from a payload log, also while a server is writing it.

Times that are given are RFC 3339 text or datetimes with a zone; a bad one raises `ValueError`. What is needed to read
is imported when a function is called, not before; `MissingExtra` where pandas is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from inferwatch.clock import parse_time
from inferwatch.errors import MissingExtra
from inferwatch.events import Service

if TYPE_CHECKING:
    import pandas as pd

    from inferwatch.finding import DetectorKind


def payloads(
    model: str,
    *,
    data: Path | str,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    features: Sequence[str] = (),
) -> pd.DataFrame:
    """Return one row an instance, in the order of the log.

    `model` is `namespace/name`, `data` the directory of the payload log. The columns: `id`, `key`, `row`,
    `request_time`, `response_time`, `component`, `endpoint`, `outcome`, `status`, `excluded`, `request_id`; then the
    features, under the names of the payload, or of `features` where the payload names none and the widths agree; then
    the outputs. An output whose name is taken is called `response.<name>`, and a feature likewise `request.<name>`.

    A half that never came, or that nobody can decode, is missing values; a payload without any rows is left out.
    """
    _require_pandas()
    from inferwatch.payload_log.frames import payload_frame
    from inferwatch.payload_log.index import PayloadFilter

    wanted = PayloadFilter(service=_service(model), since_ns=_instant(since), until_ns=_instant(until))
    return payload_frame(Path(data), wanted, features)


def findings(
    model: str | None = None,
    *,
    data: Path | str,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    endpoint: str | None = None,
    kind: DetectorKind | None = None,
    detector: str | None = None,
    fired: bool | None = None,
) -> pd.DataFrame:
    """Return one row a finding, oldest first, with the fields of the API; times are timestamps in UTC.

    `features` holds lists of dicts, worst first, and `window` dicts of `from`, `to` and `rows`.
    """
    _require_pandas()
    from inferwatch.payload_log.findings import FindingFilter
    from inferwatch.payload_log.frames import finding_frame

    wanted = FindingFilter(
        service=None if model is None else _service(model),
        endpoint=endpoint,
        kind=kind,
        detector=detector,
        fired=fired,
        since_ns=_instant(since),
        until_ns=_instant(until),
    )
    return finding_frame(Path(data), wanted)


def _service(model: str) -> Service:
    namespace, _, name = model.partition("/")
    if not (namespace and name):
        raise ValueError(f"a model is named 'namespace/name', not {model!r}")
    return Service(namespace, name)


def _instant(moment: str | datetime | None) -> int | None:
    if moment is None:
        return None
    return parse_time(moment.isoformat() if isinstance(moment, datetime) else moment)


def _require_pandas() -> None:
    if find_spec("pandas") is None:
        raise MissingExtra("a DataFrame", "pandas")
