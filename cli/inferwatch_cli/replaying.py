"""The command `replay`: the detectors over stored traffic, in a state of its own that is thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from inferwatch.clock import parse_time
from inferwatch.errors import ConfigError, Fault
from inferwatch.exclusion import Exclusion
from inferwatch.payload_log.findings import FindingFilter, list_findings
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.state import State
from inferwatch.pipeline import derive
from inferwatch_cli.checks import Checked, checked
from inferwatch_detectors.plugins import entry_for
from inferwatch_detectors.worker import MonitoredModel, Worker

Document = dict[str, Any]
_PAGE = 10_000
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Rules:
    """A configuration of what is replayed: its file, and the models that are judged."""

    path: Path
    configuration: Checked
    models: Sequence[MonitoredModel]


def replay_lines(
    config: Path,
    data: Path | None,
    model: str | None,
    since: str | None,
    until: str | None,
    compare: Path | None,
    *,
    as_json: bool,
) -> Iterator[str]:
    """Yield what the command prints: each finding as JSON, or what each detector would have alarmed.

    Of two configurations the log and the times are the first one's. Raises `ConfigError` for what is wrongly asked or
    configured, `PayloadLogError` for a log that is not there or damaged.
    """
    wanted = FindingFilter(since_ns=_instant("--since", since), until_ns=_instant("--until", until))
    rules = [_rules(path, model) for path in (config, compare) if path is not None]
    directory = data or rules[0].configuration.settings.payload_log.path
    replayed = [replay(directory, each, wanted) for each in rules]
    if not as_json:
        yield from _summary(rules, replayed)
        return
    for each, findings in zip(rules, replayed, strict=True):
        mark = {"configuration": str(each.path)} if compare is not None else {}
        yield from (orjson.dumps(mark | finding).decode() for finding in findings)


def replay(directory: Path, rules: Rules, wanted: FindingFilter) -> list[Document]:
    """Return the findings of a log's traffic under the rules, by time: those that live traffic gave, where it did.

    The whole log is judged, because windows depend on what came before; what is `wanted` is chosen afterwards. Another
    process may write the log meanwhile.
    """
    settings = rules.configuration.settings
    with (
        TemporaryDirectory(prefix="inferwatch-replay-") as temporary,
        JournalReader(directory) as log,
        State.open(Path(temporary)) as state,
    ):
        derive(
            log,
            state,
            Worker(rules.models),
            pair_timeout_s=settings.ingest.pair_timeout_s,
            exclusion=Exclusion([rule.rule() for rule in settings.exclude], settings.auth.origin()),
        )
        found = list(_listed(state, wanted))
    return sorted(found, key=lambda finding: (parse_time(finding["time"]), finding["id"]))


def _listed(state: State, wanted: FindingFilter) -> Iterator[Document]:
    before: int | None = None
    while True:
        with state.read() as connection:
            page = list_findings(connection, wanted, before=before, limit=_PAGE)
        if not page:
            return
        yield from (finding for _, finding in page)
        before = page[-1][0]


def _rules(path: Path, model: str | None) -> Rules:
    configuration = checked(path)
    models = [each for each in configuration.models if model is None or _name(each) == model]
    if not models:
        known = ", ".join(map(_name, configuration.models)) or "none"
        raise ConfigError([Fault("--model", f"{model!r}: is not configured in {path}; models there: {known}")])
    return Rules(path, configuration, models)


def _name(model: MonitoredModel) -> str:
    return f"{model.settings.namespace}/{model.settings.name}"


def _instant(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as fault:
        raise ConfigError([Fault(option, str(fault))]) from fault


def _summary(rules: Sequence[Rules], replayed: Sequence[Sequence[Document]]) -> Iterator[str]:
    for each, findings in zip(rules, replayed, strict=True):
        indent = ""
        if len(rules) > 1:
            yield f"{each.path}:"
            indent = "  "
        for model in each.models:
            for name, settings in model.settings.named_detectors():
                own = [f for f in findings if (f["namespace"], f["name"], f["detector"]) == (*model.service, name)]
                windowed = entry_for(settings.kind, settings.method).windowed
                yield f"{indent}{_name(model)} {name}: {_alarms(own) if windowed else _flagged(own)}"


def _alarms(findings: Sequence[Document]) -> str:
    """What a window detector would have alarmed: an alarm is a run of fired windows of one stream."""
    started: list[str] = []
    firing: dict[tuple[str, str], bool] = {}
    for finding in findings:
        stream = finding["component"], finding["endpoint"]
        if finding["fired"] and not firing.get(stream):
            started.append(f"{finding['time']} ({finding['why']})")
        firing[stream] = finding["fired"]
    windows = f"{len(findings)} windows"
    return f"{windows}, no alarm" if not started else f"{windows}, {_times('alarmed', len(started))}: {_some(started)}"


def _flagged(findings: Sequence[Document]) -> str:
    fired = [
        f"{finding['payload_id']} row {finding['row']} ({finding['why']})" for finding in findings if finding["fired"]
    ]
    return f"{len(fired)} rows flagged: {_some(fired)}" if fired else "no row flagged"


def _times(what: str, count: int) -> str:
    return f"would have {what} {'once' if count == 1 else f'{count} times'}"


def _some(texts: Sequence[str]) -> str:
    return "; ".join(texts[:_SHOWN]) + ("; ..." if len(texts) > _SHOWN else "")
