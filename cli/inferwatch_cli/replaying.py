"""The command `replay`: the detectors over stored traffic, in a state of its own that is thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from inferwatch.clock import SystemClock, parse_time
from inferwatch.errors import ConfigError, Fault
from inferwatch.events import Service
from inferwatch.exclusion import Exclusion
from inferwatch.finding import Finding
from inferwatch.listing import listed
from inferwatch.payload_log.findings import FindingFilter, list_findings, save_findings
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.state import State
from inferwatch.pipeline import derive
from inferwatch.settings import configured_for
from inferwatch_cli.checks import Checked, checked
from inferwatch_detectors.plugins import entry_for
from inferwatch_detectors.worker import MonitoredModel, Worker

Document = dict[str, Any]
_PAGE = 10_000
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Rules:
    """A configuration of what is replayed: its file, and the models whose findings are asked for."""

    path: Path
    configuration: Checked
    models: Sequence[MonitoredModel]

    @property
    def judged(self) -> Sequence[MonitoredModel]:
        """The models that have to be judged for that: all, where they share a budget."""
        return self.models if self.configuration.false_discovery_rate is None else self.configuration.models


def replay_lines(
    config: Path,
    data: Path | None,
    model: str | None,
    since: str | None,
    until: str | None,
    compare: Path | None,
    *,
    as_json: bool,
    write: bool = False,
) -> Iterator[str]:
    """Yield what the command prints: each finding as JSON, or what each detector would have alarmed.

    Of two configurations the log and the times are the first one's. `write` keeps the findings in the log too, which no
    other process may have open. Raises `ConfigError` for what is wrongly asked or configured, `PayloadLogError` for a
    log that is not there, damaged, or in use where it is to be written.
    """
    if write and compare is not None:
        raise ConfigError([Fault("--write", "keeps the findings of one configuration, not of two that are compared")])
    wanted = FindingFilter(_service(model), since_ns=_instant("--since", since), until_ns=_instant("--until", until))
    rules = [_rules(path, model) for path in (config, compare) if path is not None]
    directory = data or rules[0].configuration.settings.payload_log.path
    replayed = [replay(directory, each, wanted) for each in rules]
    if write:
        _keep(directory, replayed[0])
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
            Worker(rules.judged, false_discovery_rate=rules.configuration.false_discovery_rate),
            pair_timeout_s=settings.ingest.pair_timeout_s,
            exclusion=Exclusion([rule.rule() for rule in settings.exclude], settings.auth.origin()),
        )
        found = list(_listed(state, wanted))
    return sorted(found, key=lambda finding: (parse_time(finding["time"]), finding["id"]))


def _keep(directory: Path, findings: Sequence[Document]) -> None:
    """Keep the findings beside those that are there; one that is known by its id stays as it is."""
    with Journal.open(directory, clock=SystemClock()), State.open(directory) as state, state.transaction() as writing:
        save_findings(writing, map(Finding.from_dict, findings))


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
    chosen = configured_for({each.service: each for each in configuration.models}, _service(model) or Service("", ""))
    models = configuration.models if model is None else [chosen] if chosen is not None else []
    if not models:
        known = ", ".join(map(_name, configuration.models)) or "none"
        raise ConfigError([Fault("--model", f"{model!r}: is not configured in {path}; models there: {known}")])
    return Rules(path, configuration, models)


def _name(model: MonitoredModel) -> str:
    return str(model.service)


def _service(model: str | None) -> Service | None:
    if model is None:
        return None
    namespace, _, name = model.partition("/")
    return Service(namespace, name)


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
        for service, model in _watched(each.models, findings):
            for name, settings in model.settings.named_detectors():
                own = [f for f in findings if (f["namespace"], f["name"], f["detector"]) == (*service, name)]
                windowed = entry_for(settings.kind, settings.method).windowed
                yield f"{indent}{service} {name}: {_alarms(own) if windowed else _flagged(own)}"


def _watched(
    models: Sequence[MonitoredModel], findings: Sequence[Document]
) -> Iterator[tuple[Service, MonitoredModel]]:
    """Yield every model under its name; one that stands for any with `*`, under each name that has findings."""
    known = {model.service: model for model in models}
    yield from ((service, model) for service, model in known.items() if "*" not in service)
    for service in sorted({Service(finding["namespace"], finding["name"]) for finding in findings} - known.keys()):
        if (model := configured_for(known, service)) is not None:
            yield service, model


def _alarms(findings: Sequence[Document]) -> str:
    """What a window detector would have alarmed: an alarm is a run of fired windows of one stream or segment."""
    started: list[str] = []
    firing: dict[tuple[str | None, ...], bool] = {}
    for finding in findings:
        stream = finding["component"], finding["endpoint"], finding["version"], finding["segment"]
        if finding["fired"] and not firing.get(stream):
            where = f"{finding['segment']}: " if finding["segment"] else ""
            started.append(f"{finding['time']} ({where}{finding['why']})")
        firing[stream] = finding["fired"]
    windows = f"{len(findings)} windows"
    if not started:
        return f"{windows}, no alarm"
    return f"{windows}, {_times('alarmed', len(started))}: {listed(started, _SHOWN, '; ')}"


def _flagged(findings: Sequence[Document]) -> str:
    fired = [
        f"{finding['payload_id']} row {finding['row']} ({finding['why']})" for finding in findings if finding["fired"]
    ]
    return f"{len(fired)} rows flagged: {listed(fired, _SHOWN, '; ')}" if fired else "no row flagged"


def _times(what: str, count: int) -> str:
    return f"would have {what} {'once' if count == 1 else f'{count} times'}"
