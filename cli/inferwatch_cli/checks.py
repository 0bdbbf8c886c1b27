"""Checks a configuration as far as that goes without traffic: the file, the references, the methods, the promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inferwatch.errors import ConfigError, Fault, InvalidReference, UnkeepablePromise
from inferwatch.reference import Reference, read_reference
from inferwatch.settings import ModelSettings, Settings, load_settings
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.registry import DETECTORS
from inferwatch_detectors.stream_judge import built_detector
from inferwatch_detectors.worker import MonitoredModel
from inferwatch_explainers.registry import EXPLAINERS


@dataclass(frozen=True, slots=True)
class Checked:
    """A configuration without a fault, its references read."""

    settings: Settings
    models: Sequence[MonitoredModel]


def checked(path: Path) -> Checked:
    """Return a configuration with its references. Raises `ConfigError` with every fault at once."""
    settings = load_settings(path)
    faults: list[Fault] = []
    models: list[MonitoredModel] = []
    for number, model in enumerate(settings.models):
        where = f"models[{number}]"
        faults.extend(_unknown_methods(model, where))
        try:
            reference = _read(model)
        except InvalidReference as fault:
            faults.append(Fault(f"{where}.reference", str(fault)))
            continue
        models.append(MonitoredModel(model, reference))
        faults.extend(_unkeepable(model, reference, where))
    if faults:
        raise ConfigError(faults)
    return Checked(settings, models)


def _read(model: ModelSettings) -> Reference:
    created_ns = model.reference.stat().st_mtime_ns if model.reference.exists() else 0
    features = [feature.feature() for feature in model.features]
    return read_reference(model.reference, features=features, sample_rows=model.reference_rows, created_ns=created_ns)


def _unknown_methods(model: ModelSettings, where: str) -> Iterator[Fault]:
    for number, detector in enumerate(model.detectors):
        known = [method for kind, method in DETECTORS if kind == detector.kind]
        if detector.method not in known:
            yield _unknown(f"{where}.detectors[{number}].method", detector.method, known)
    for number, explainer in enumerate(model.explainers):
        if explainer.method not in EXPLAINERS:
            yield _unknown(f"{where}.explainers[{number}].method", explainer.method, list(EXPLAINERS))


def _unknown(path: str, value: str, known: Sequence[str]) -> Fault:
    return Fault(path, f"{value!r}: unknown method; allowed here: {', '.join(known)}")


def _unkeepable(model: ModelSettings, reference: Reference, where: str) -> Iterator[Fault]:
    independent = Dependence.independent(len(reference.schema.features))
    for number, detector in enumerate(model.detectors):
        if (detector.kind, detector.method) not in DETECTORS:
            continue
        try:
            built_detector(detector, model.false_alarms, reference, independent)
        except UnkeepablePromise as fault:
            yield Fault(f"{where}.detectors[{number}]", str(fault))
