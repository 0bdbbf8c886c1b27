"""Checks a configuration as far as that goes without traffic: the file, the references, the methods, the promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inferwatch.delivery.kafka import producer_of
from inferwatch.delivery.tls import Trust
from inferwatch.derived import column_of
from inferwatch.errors import ConfigError, Fault, InvalidOption, InvalidReference, MissingExtra
from inferwatch.events import Service
from inferwatch.payload_log.segment import can_seal
from inferwatch.reference import Reference, read_reference
from inferwatch.settings import (
    AnyTransport,
    CaptureSettings,
    KafkaTransport,
    ModelSettings,
    Settings,
    load_settings,
    read_document,
)
from inferwatch_cli.detector_checks import detector_faults, method_fault
from inferwatch_cli.explained import artifact_of
from inferwatch_detectors.worker import MonitoredModel
from inferwatch_explainers.grpc_predictor import require_grpc
from inferwatch_explainers.limits import Limits, check_immutable
from inferwatch_explainers.registry import METHODS, explains_texts, needs_model, options_of
from inferwatch_logger.capture import Capture

_Sketch = tuple[str | None, str | None]
"""The kind and the method that a detector or explainer names."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A configuration without a fault, its references read."""

    settings: Settings
    models: Sequence[MonitoredModel]
    bearer_token: str | None = None

    @property
    def false_discovery_rate(self) -> float | None:
        """The share of a day's alarms over all models that may be false; None where each model is by itself."""
        return self.settings.fleet.false_discovery_rate if self.settings.fleet is not None else None

    def feature_names(self) -> dict[Service, tuple[str, ...]]:
        """Return the names of the models' inputs, as far as they are known beforehand."""
        return {model.service: model.feature_names for model in self.models if model.feature_names}


def checked(path: Path, *, needs_predictor: bool = True) -> Checked:
    """Return a configuration with its references. Raises `ConfigError` with every fault at once.

    `needs_predictor`: whether explainers have to say where their model is.
    """
    try:
        settings = load_settings(path)
    except ConfigError as fault:
        raise ConfigError([*fault.faults, *_further_faults(path, fault)]) from fault
    faults: list[Fault] = []
    models: list[MonitoredModel] = []
    for number, model in enumerate(settings.models):
        where = f"models[{number}]"
        detectors = [(detector.kind, detector.method) for detector in model.detectors]
        faults.extend(_unknown_methods(detectors, [(None, spec.method) for spec in model.explainers], where))
        try:
            models.append(_monitored(model))
        except InvalidReference as fault:
            faults.append(Fault(f"{where}.reference", str(fault)))
        else:
            faults.extend(_unkeepable(models[-1], where, needs_predictor=needs_predictor))
    faults.extend(_unusable_transport(settings.transport))
    faults.extend(_unusable_store(settings))
    faults.extend(_unusable_capture(settings.capture))
    if faults:
        raise ConfigError(faults)
    return Checked(settings, models, settings.auth.bearer_token())


def _unkeepable(monitored: MonitoredModel, where: str, *, needs_predictor: bool) -> Iterator[Fault]:
    """Yield what a model's detectors and explainers cannot keep with its references."""
    model, reference = monitored.settings, monitored.known
    given = [*monitored.by_version.values(), *filter(None, [monitored.given])]
    found = [fault for each in given for fault in detector_faults(model, each, where)]
    yield from dict.fromkeys(found)
    if reference is None:
        if model.explainers and not found:
            yield Fault(f"{where}.explainers", "explainers need a reference that is a file")
        return
    yield from _unexplainable(model, reference, where)
    yield from _unusable_artifacts(model, reference, where)
    yield from _wrong_immutables(model, reference, where)
    yield from _wrong_options(model, reference, where)
    yield from _unspoken_protocols(model, where)
    if needs_predictor:
        yield from _missing_predictors(model, where)


def _unusable_store(settings: Settings) -> Iterator[Fault]:
    """Yield what only shows where the extra is needed, the secret files are read, or the rules are compiled."""
    if settings.payload_log.retention_days is not None and not can_seal():
        yield Fault("payload_log.retention_days", str(MissingExtra("retention", "store")))
    for path, read in (
        ("auth.bearer_token_file", settings.auth.bearer_token),
        ("auth.origin_key_file", settings.auth.origin),
        ("payload_log.redact", settings.payload_log.redaction),
    ):
        try:
            read()
        except ValueError as fault:
            yield Fault(path, str(fault))


def _unusable_transport(transport: AnyTransport) -> Iterator[Fault]:
    """Yield what the client of the brokers says against its options, without asking any broker."""
    if not isinstance(transport, KafkaTransport):
        return
    try:
        producer_of(transport.client, transport.bootstrap, transport.options, 1.0)
    except ConfigError as error:
        for fault in error.faults:
            yield Fault(".".join(filter(None, ("transport.options", fault.path))), fault.message)
    except MissingExtra as error:
        yield Fault("transport.client", str(error))


def _unusable_capture(capture: CaptureSettings) -> Iterator[Fault]:
    """Yield what only shows where the files are read: keys and certificates that are missing."""
    for read in (lambda: Capture.of(**capture.options()), lambda: capture.tls and Trust(capture.tls.tls())):
        try:
            read()
        except ConfigError as error:
            yield from (Fault(f"capture.{fault.path}", fault.message) for fault in error.faults)


def _further_faults(path: Path, known: ConfigError) -> list[Fault]:
    """Return the faults of methods and references in a file whose settings are not valid as they stand.

    Looks only at values that are of the right type; what the settings found already is not said again.
    """
    try:
        models = read_document(path).get("models")
    except ConfigError:
        return []
    faults: list[Fault] = []
    for number, raw in enumerate(models if isinstance(models, list) else ()):
        if not isinstance(raw, dict):
            continue
        where = f"models[{number}]"
        detectors, explainers = (_sketches(raw.get(section)) for section in ("detectors", "explainers"))
        faults.extend(_unknown_methods(detectors, explainers, where))
        if isinstance(raw.get("reference"), str):
            try:
                read_reference(path.parent / raw["reference"], created_ns=0)
            except InvalidReference as fault:
                faults.append(Fault(f"{where}.reference", str(fault)))
    said = {fault.path for fault in known.faults}
    return [fault for fault in faults if fault.path not in said]


def _sketches(raw: object) -> list[_Sketch]:
    """Return kind and method of every entry, None where there is no text."""
    entries = raw if isinstance(raw, list) else []
    found = [entry if isinstance(entry, dict) else {} for entry in entries]
    return [(_text(entry.get("kind")), _text(entry.get("method"))) for entry in found]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _monitored(model: ModelSettings) -> MonitoredModel:
    """Return the model with its references read. Raises `InvalidReference`."""
    if isinstance(model.reference, Path):
        return MonitoredModel(model, _read(model, model.reference))
    if isinstance(model.reference, Mapping):
        return MonitoredModel(model, None, {version: _read(model, path) for version, path in model.reference.items()})
    return MonitoredModel(model, None)


def _read(model: ModelSettings, path: Path) -> Reference:
    created_ns = path.stat().st_mtime_ns if path.exists() else 0
    features = [feature.feature() for feature in model.features]
    return read_reference(
        path, features=features, also=model.outputs, sample_rows=model.reference_rows, created_ns=created_ns
    )


def _unknown_methods(detectors: Sequence[_Sketch], explainers: Sequence[_Sketch], where: str) -> Iterator[Fault]:
    for number, (kind, method) in enumerate(detectors):
        told = method_fault(kind, method) if kind is not None and method is not None else None
        if told is not None:
            yield Fault(f"{where}.detectors[{number}].method", told)
    for number, (_, method) in enumerate(explainers):
        if method is not None and method not in METHODS:
            yield _unknown(f"{where}.explainers[{number}].method", method, METHODS)


def _unknown(path: str, value: str, known: Sequence[str]) -> Fault:
    return Fault(path, f"{value!r}: unknown method; allowed here: {', '.join(known)}")


def _missing_predictors(model: ModelSettings, where: str) -> Iterator[Fault]:
    for number, explainer in enumerate(model.explainers):
        if explainer.predictor is None and explainer.artifact is None:
            yield Fault(f"{where}.explainers[{number}]", "an explainer needs a `predictor`, an `artifact`, or both")


def _unspoken_protocols(model: ModelSettings, where: str) -> Iterator[Fault]:
    for number, explainer in enumerate(model.explainers):
        if explainer.protocol == "grpc":
            try:
                require_grpc()
            except MissingExtra as fault:
                yield Fault(f"{where}.explainers[{number}].protocol", str(fault))


def _wrong_immutables(model: ModelSettings, reference: Reference, where: str) -> Iterator[Fault]:
    for number, explainer in enumerate(model.explainers):
        path = f"{where}.explainers[{number}].immutable"
        if explainer.immutable and explainer.method != "counterfactual":
            yield Fault(path, f"is for counterfactual, not for {explainer.method}")
            continue
        try:
            check_immutable(explainer.immutable, reference.schema)
        except InvalidOption as fault:
            yield Fault(path, str(fault))


def _unexplainable(model: ModelSettings, reference: Reference, where: str) -> Iterator[Fault]:
    """Yield explainers of rows that do not know what the model takes, since the reference measures a column of its."""
    names = reference.schema.names
    measured = [column for name in names if (column := column_of(name, names)) is not None]
    for number, explainer in enumerate(model.explainers):
        if measured and explainer.method in METHODS and not explains_texts(explainer.method):
            told = f"{explainer.method} needs the model's own columns, and {measured[0]!r} holds texts or arrays"
            yield Fault(f"{where}.explainers[{number}]", f"{told}; under `features` it can be declared categorical")


def _unusable_artifacts(model: ModelSettings, reference: Reference, where: str) -> Iterator[Fault]:
    for number, explainer in enumerate(model.explainers):
        path = f"{where}.explainers[{number}].artifact"
        if explainer.artifact is None:
            if needs_model(explainer.method):
                yield Fault(path, f"{explainer.method} explains a model at hand, and needs it as a file")
            continue
        if explains_texts(explainer.method):
            yield Fault(path, f"{explainer.method} asks a server about texts, and takes no model at hand")
            continue
        try:
            artifact_of(explainer, reference)
        except (InvalidOption, MissingExtra) as fault:
            yield Fault(path, str(fault))


def _wrong_options(model: ModelSettings, reference: Reference, where: str) -> Iterator[Fault]:
    for number, explainer in enumerate(model.explainers):
        path = f"{where}.explainers[{number}].options"
        if explainer.method not in METHODS:
            continue
        try:
            options = options_of(explainer.method, explainer.options)
            if explainer.method == "counterfactual":
                Limits(reference.schema, **options)
        except InvalidOption as fault:
            yield Fault(path, str(fault))
