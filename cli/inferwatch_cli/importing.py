"""The command `import`: files of payloads that were logged elsewhere, into the payload log.

What is imported is history: it is joined and decoded like live traffic, and judged by nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from inferwatch.clock import SystemClock
from inferwatch.errors import ConfigError, Fault, InvalidEvent, InvalidImport, PayloadLogError
from inferwatch.events import CloudEvent, Service
from inferwatch.exclusion import Exclusion
from inferwatch.importing.files import halves
from inferwatch.payload_log.feature_names import keep_feature_names
from inferwatch.payload_log.findings import list_statuses
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Pipeline
from inferwatch.redaction import Redaction
from inferwatch.settings import Settings
from inferwatch_cli.bystander import Bystander
from inferwatch_cli.checks import Checked, checked

_BATCH = 500
_WAIT_S = 1.0


def import_files(files: Sequence[Path], data: Path, model: str, config: Path | None) -> Iterator[str]:
    """Import the files one by one and yield a line on each.

    Raises `ConfigError` for what is wrongly asked, `InvalidImport` for a file that holds no payloads, `PayloadLogError`
    for a log that is in use, damaged, or holds events that are not yet derived.
    """
    namespace, _, name = model.partition("/")
    if not (namespace and name):
        raise ConfigError([Fault("--model", f"{model!r}: a model is named NS/NAME")])
    if absent := [Fault("files", f"{path} is no file") for path in files if path.is_dir() or not path.exists()]:
        raise ConfigError(absent)
    configuration = Checked(Settings(), ()) if config is None else checked(config)
    settings = configuration.settings
    redaction = settings.payload_log.redaction()
    clock = SystemClock()
    with Journal.open(data, settings.payload_log.durability, clock=clock) as journal, State.open(data) as state:
        if state.position() < journal.end():
            raise PayloadLogError(f"{data}: holds events that are not yet judged; `inferwatch up` does that first")
        with state.read() as connection:
            bystander = Bystander(list_statuses(connection))
        keep_feature_names(state, configuration.feature_names())
        exclusion = Exclusion([rule.rule() for rule in settings.exclude], settings.auth.origin())
        timeout_s = settings.ingest.pair_timeout_s
        pipeline = Pipeline(journal, state, bystander, pair_timeout_s=timeout_s, clock=clock, exclusion=exclusion)
        pipeline.start()
        try:
            for path in files:
                yield _import_file(path, Service(namespace, name), journal, redaction)
                _derive(pipeline, journal.end())
        finally:
            pipeline.stop()


def _import_file(path: Path, service: Service, journal: Journal, redaction: Redaction) -> str:
    before = journal.ledger()
    faults: Counter[str] = Counter()
    first: InvalidEvent | None = None
    found = halves(path, service)
    while batch := list(islice(found, _BATCH)):
        events = [redaction.event(half) for half in batch if isinstance(half, CloudEvent)]
        bad = [half for half in batch if isinstance(half, InvalidEvent)]
        first = first or (bad[0] if bad else None)
        faults.update(half.reason for half in bad)
        journal.append(events, malformed=[half.reason for half in bad]).result()
    after = journal.ledger()
    stored, duplicate = after.stored - before.stored, after.duplicate - before.duplicate
    if not stored + duplicate:
        raise InvalidImport(f"{path} holds no payloads{f' ({first})' if first else ''}")
    line = f"{path}: {stored} events stored, {duplicate} there already"
    return f"{line}, {faults.total()} malformed ({_shown(faults)}; first: {first})" if first else line


def _shown(faults: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in faults.most_common())


def _derive(pipeline: Pipeline, end: int) -> None:
    while not pipeline.wait_for(end, _WAIT_S):
        if pipeline.fault is not None:
            raise PayloadLogError(pipeline.fault)
