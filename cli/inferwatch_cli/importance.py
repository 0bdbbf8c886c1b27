"""The command `importance`: how much a model's predictions of its logged traffic hang on each feature."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson

from inferwatch.errors import ConfigError, Fault, InvalidReference
from inferwatch.events import Service
from inferwatch.explanation import Summary
from inferwatch.payload_log.logged_rows import joined_rows, logged_rows, newest_request
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.views import StateReader
from inferwatch.protocols import Predict
from inferwatch.rows import Matrix, Schema
from inferwatch.settings import ExplainerSettings, Settings
from inferwatch_cli.checks import checked
from inferwatch_cli.explained import artifact_of
from inferwatch_detectors.worker import MonitoredModel
from inferwatch_explainers.permutation_importance import PermutationImportance
from inferwatch_explainers.predictor import RemotePredictor
from inferwatch_explainers.request import form_like


def importance_lines(
    config: Path, data: Path | None, name: str, last: int, repeats: int, *, as_json: bool
) -> Iterator[str]:
    """Yield what the command prints: JSON in one line, or a line a feature, the one that matters most first.

    Raises `ConfigError` for a model that cannot be asked, `InvalidReference` without rows, `PredictorError` for a
    predictor that fails, `PayloadLogError` for a log that is not there or damaged.
    """
    configuration = checked(config)
    model = next((each for each in configuration.models if str(each.service) == name), None)
    if model is None or not model.settings.explainers:
        known = ", ".join(str(each.service) for each in configuration.models if each.settings.explainers) or "none"
        raise ConfigError([Fault("--model", f"{name!r}: no such model with an explainer; there are {known}")])
    directory = data or configuration.settings.payload_log.path
    rows, left_out, newest = _logged(directory, model.service, model.reference.schema, last)
    with _predictor(configuration.settings, model, newest) as predict:
        said = PermutationImportance(predict, schema=model.reference.schema, repeats=repeats).explain(rows)
    (entry,) = said.as_dicts()
    yield from [orjson.dumps(entry).decode()] if as_json else _written(name, said, left_out)


def _logged(directory: Path, service: Service, schema: Schema, last: int) -> tuple[Matrix, int, bytes]:
    """Return logged rows (n, d) without a missing or unknown value, how many had one, and the newest request."""
    with JournalReader(directory) as events, StateReader(directory) as state, state.read() as connection:
        parts = logged_rows(events, connection, service, last=last)
        newest = newest_request(events, connection, service)
    encoded = schema.encode(joined_rows(parts, f"{directory}: {service}"))
    known = np.array([len(feature.categories) or np.inf for feature in schema.features])
    complete = (np.isfinite(encoded.values) & (encoded.values < known)).all(axis=1)
    if complete.sum() < 2:
        raise InvalidReference(f"{directory}: {service}: fewer than 2 logged rows have every feature of the reference")
    return encoded.values[complete], int((~complete).sum()), newest[0].data if newest is not None else b""


@contextmanager
def _predictor(settings: Settings, model: MonitoredModel, newest: bytes) -> Iterator[Predict]:
    """Give the model as a function of rows, which asks in the form of the newest request."""
    explainer: ExplainerSettings = model.settings.explainers[0]
    artifact, schema = artifact_of(explainer, model.reference), model.reference.schema
    if artifact is not None:
        yield artifact.outputs
    elif explainer.predictor is not None:
        remote = RemotePredictor(
            explainer.predictor,
            model.settings.name,
            schema,
            protocol=explainer.protocol,
            origin=settings.auth.origin(),
            grpc_port=explainer.grpc_port,
        )
        with remote:
            yield remote.bind(form_like(newest, schema))


def _written(name: str, said: Summary, left_out: int) -> Iterator[str]:
    (entry,) = said.entries
    without = f", {left_out:,} left out for a missing or unknown value" if left_out else ""
    asked = f"{said.predictor_rows:,} asked in {said.predictor_calls} questions"
    yield f"{name}: {entry['rows']:,} logged rows{without}; {asked}"
    yield "how far predictions move when one feature is another row's:"
    width = max(map(len, entry["features"]))
    told = sorted(zip(entry["values"], entry["std_error"], entry["features"], strict=True), key=lambda each: -each[0])
    yield from (f"  {feature:<{width}}  {value:.4g} \N{PLUS-MINUS SIGN} {error:.2g}" for value, error, feature in told)
