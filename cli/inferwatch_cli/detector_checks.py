"""Checks of what is configured about detectors, as far as a reference that is at hand can tell."""

from __future__ import annotations

from collections.abc import Iterator

from inferwatch.errors import Fault, InvalidOption, UnkeepablePromise
from inferwatch.listing import listed
from inferwatch.reference import Reference
from inferwatch.settings import AnyDetectorSettings, DriftSettings, ModelSettings
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.plugins import entry_for
from inferwatch_detectors.post import built_detector
from inferwatch_detectors.registry import DETECTORS
from inferwatch_detectors.stream_judge import output_names, part_of


def detector_faults(model: ModelSettings, given: Reference, where: str) -> Iterator[Fault]:
    """Yield the faults of a model's detectors and segments; those of unknown methods are told elsewhere."""
    names = [name for name in given.schema.names if name not in output_names(given, model)]
    if not names:
        yield Fault(f"{where}.outputs", "name all columns of the reference, so that no input is left")
        return
    for number, segment in enumerate(model.segments):
        if isinstance(segment.by, str) and segment.by not in names:
            known = listed(names, 20)
            yield Fault(f"{where}.segments[{number}].by", f"{segment.by!r}: is no feature; there are {known}")
    for number, rule in enumerate(model.detectors):
        if is_known(rule.kind, rule.method):
            yield from _unbuildable(model, rule, given, f"{where}.detectors[{number}]")


def unseen_season(model: ModelSettings, where: str) -> Iterator[Fault]:
    """Yield what is no fault and worth knowing where parts of the day or of the week are segments."""
    if model.cycle_hours and model.burn_in_rows is None:
        yield Fault(
            f"{where}.burn_in_rows",
            f"unset, so at most 3,000: where less than {model.cycle_hours} hours bring as many, all rows together may"
            " take the cycle for drift; the rows of three cycles show it",
        )


def is_known(kind: str, method: str) -> bool:
    """Return whether there is such a detector."""
    try:
        entry_for(kind, method)
    except InvalidOption:
        return False
    return True


def method_fault(kind: str, method: str) -> str | None:
    """Return what is wrong with the method of a detector; None where there is one."""
    known = [name for of_kind, name in DETECTORS if of_kind == kind]
    if not known or method in known:
        return None
    try:
        entry_for(kind, method)
    except InvalidOption as fault:
        return str(fault).replace("unknown method", f"unknown method; allowed here: {', '.join(known)}", 1)
    return None


def _unbuildable(model: ModelSettings, rule: AnyDetectorSettings, given: Reference, where: str) -> Iterator[Fault]:
    """Try to build a detector. What is compared with live rows shows only when they come."""
    reference = part_of(given, model, rule.on)
    if reference is None or (isinstance(rule, DriftSettings) and rule.against is not None):
        return
    try:
        built_detector(rule, model.false_alarms, reference, Dependence.independent(len(reference.schema.features)))
    except InvalidOption as fault:
        yield Fault(f"{where}.expect", str(fault))
    except UnkeepablePromise as fault:
        yield Fault(where, str(fault))
