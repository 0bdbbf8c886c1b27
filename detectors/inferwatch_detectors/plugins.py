"""Detectors from elsewhere: named by module and class, or by an entry point of an installed package."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points

from inferwatch.errors import InvalidOption
from inferwatch.protocols import Detector
from inferwatch.reference import Reference
from inferwatch_detectors.registry import DETECTORS, Asked, Entry

GROUP = "inferwatch.detectors"


def entry_for(kind: str, method: str) -> Entry:
    """Return the detector of a kind and method: one of ours, an entry point's, or `package.module:Class`.

    Raises `InvalidOption` for one that is unknown, cannot be imported, or is of another kind.
    """
    ours: Mapping[tuple[str, str], Entry] = {(of, name): entry for (of, name), entry in DETECTORS.items()}
    return ours[kind, method] if (kind, method) in ours else _plugged(kind, method)


@lru_cache(maxsize=256)
def _plugged(kind: str, method: str) -> Entry:
    made = _imported(method)
    of_kind = getattr(made, "kind", None)
    if of_kind != kind:
        raise InvalidOption(f"{method!r}: is a detector of kind {of_kind!r}, not {kind!r}")
    if not callable(getattr(made, "observe", None)):
        raise InvalidOption(f"{method!r}: has no method `observe`, so it is no detector")
    return Entry(of_kind, getattr(made, "method", method), kind != "outlier", _builder(made))


def _imported(method: str) -> Callable[..., Detector]:
    if ":" not in method:
        installed = {point.name: point for point in entry_points(group=GROUP)}
        if method not in installed:
            others = f"; installed beside ours: {', '.join(installed)}" if installed else ""
            raise InvalidOption(f"{method!r}: unknown method{others}")
        method = installed[method].value
    module, _, name = method.partition(":")
    try:
        made: Callable[..., Detector] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as fault:
        raise InvalidOption(f"{method!r}: cannot be imported: {fault}") from fault
    return made


def _builder(made: Callable[..., Detector]) -> Callable[[Reference, Asked], Detector]:
    """Return what makes the detector, with those of the options that its constructor names."""
    named = inspect.signature(made).parameters

    def build(reference: Reference, asked: Asked) -> Detector:
        return made(reference, **{f.name: getattr(asked, f.name) for f in fields(asked) if f.name in named})

    return build
