"""Payloads, findings and explanations as pandas DataFrames, read from a payload log, also while a server is writing it.

Times that are given are RFC 3339 text or datetimes with a zone; a bad one raises `ValueError`. What is needed to read
is imported when a function is called, not before; `MissingExtra` where pandas is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from inferwatch.clock import parse_time
from inferwatch.errors import MissingExtra
from inferwatch.events import Service

if TYPE_CHECKING:
    import pandas as pd

    from inferwatch.finding import DetectorKind

Outcome = Literal["paired", "request_only", "response_only"]


def payloads(
    model: str,
    *,
    data: Path | str,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    id: str | None = None,  # noqa: A002 - the name that the column and the API have
    outcome: Outcome | None = None,
    excluded: str | None = None,
    features: Sequence[str] | None = None,
    tensors: bool = False,
) -> pd.DataFrame:
    """Return one row an instance, in the order of the log.

    `model` is `namespace/name`, `data` the directory of the payload log. `since` (inclusive) and `until` (exclusive)
    bound the time of the request; `id`, `outcome` and `excluded` choose payloads as `GET /api/payloads` does.

    The columns, in the same types where there are no rows:

    =============================  ====================  ==============================================================
    `id`, `key`                    string                Ce-Id; the log's own key, unique
    `row`                          int64                 place of the instance within its payload, from 0
    `request_time, response_time`  datetime64[ns, UTC]   event times, NaT where a half is missing
    `component`, `endpoint`        string
    `outcome`                      string                `paired`, `request_only` or `response_only`
    `status`                       Int64                 HTTP status where known
    `excluded`                     string                why no detector counts it, else missing
    `request_id`                   string                X-Request-Id where logged
    features, then outputs         as they came          see below
    =============================  ====================  ==============================================================

    Features bear the names of the payload. Where that names none and the widths agree, they bear those of `features`,
    by default those that the model was last configured with. An output whose name is taken is called `response.<name>`,
    and a feature likewise `request.<name>`.

    With `tensors` each tensor of several elements a row, such as an image or an embedding, is one column of its name
    whose cells are arrays in its own shape and type; without, that is so only of those with more than 4,096 elements.

    A column that not all payloads have, as when a model's version changes, is there once, with missing values for the
    others. Its type is the one that holds all of its cells: float64 for numbers of which some are missing, object where
    that would round an integer, or where numbers and texts meet. A half that never came, or that nobody can decode, is
    missing values; a payload without any rows is left out.
    """
    _require_pandas()
    from inferwatch.payload_log.frames import payload_frame
    from inferwatch.payload_log.index import PayloadFilter

    chosen = _one_of("outcome", outcome, get_args(Outcome))
    wanted = PayloadFilter(_service(model), _instant(since), _instant(until), id, outcome=chosen, excluded=excluded)
    return payload_frame(Path(data), wanted, features, tensors=tensors)


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
    flat: bool = False,
) -> pd.DataFrame:
    """Return one row a finding, oldest first, with the fields of the API.

    The columns, in the same types where there are no rows: `time` is datetime64[ns, UTC], `fired` bool, `score`,
    `threshold`, `p_value` and `statistic` float64, `row` Int64, `features` lists of dicts, worst first, and `window`
    dicts of `from`, `to` and `rows`; `id`, `namespace`, `name`, `endpoint`, `version`, `component`, `segment`,
    `detector`, `kind`, `method`, `payload_id`, `key`, `assumption` and `why` are strings.

    `flat` gives one row a feature of a finding instead (one where it has none), every cell a plain value: `feature`,
    `feature_score`, `feature_statistic`, `feature_p_value`, `feature_effect`, `feature_effect_low`,
    `feature_effect_high` and `feature_fired`, and `window_from`, `window_to` and `window_rows`, in place of the two.
    """
    _require_pandas()
    from inferwatch.finding import DetectorKind
    from inferwatch.payload_log.findings import FindingFilter
    from inferwatch.payload_log.frames import finding_frame

    wanted = FindingFilter(
        service=None if model is None else _service(model),
        endpoint=endpoint,
        kind=_one_of("kind", kind, get_args(DetectorKind)),
        detector=detector,
        fired=fired,
        since_ns=_instant(since),
        until_ns=_instant(until),
    )
    return finding_frame(Path(data), wanted, flat=flat)


def explanations(
    model: str,
    *,
    data: Path | str,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
) -> pd.DataFrame:
    """Return one row an explained row, in the order of the log.

    `since` (inclusive) and `until` (exclusive) bound the time of the explanation. The columns, in the same types where
    there are no rows: `time` is datetime64[ns, UTC], `row` Int64 (the place of the instance in the request; missing for
    what is said of all of them together), `prediction` float64, `target` an object, `id`, `payload_id`, `request_id`
    and `method` strings. `explanation` holds `LoggedExplanation`s: each reads as a sentence in the table, is drawn
    where it is the value of a notebook's cell, and has all that was said in `entry`.
    """
    _require_pandas()
    from inferwatch.payload_log.frames import explanation_frame

    return explanation_frame(Path(data), _service(model), _instant(since), _instant(until))


def _one_of(option: str, value: str | None, allowed: Sequence[str]) -> str | None:
    if value is not None and value not in allowed:
        raise ValueError(f"{option} is {' or '.join(map(repr, allowed))}, not {value!r}")
    return value


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
