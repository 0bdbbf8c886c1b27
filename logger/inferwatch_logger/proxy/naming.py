"""Whose the requests are where nobody said: the model that a V1 or V2 path names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from inferwatch.events import CloudEvent
from inferwatch_logger.capture import Capture, Headers, Inference

_MODEL: Final = re.compile(r"/v[12]/models/([A-Za-z0-9._-]{1,253})")
_MOST_NAMES: Final = 1_000


class CaptureByPath:
    """Captures under the model's name in the path; under the name of the capture it is given where there is none.

    At most 1,000 names are told apart, as anybody can ask for models that there are not.
    """

    def __init__(self, capture: Capture, emit: Callable[[CloudEvent], None]) -> None:
        self._capture = capture
        self._emit = emit
        self._named: dict[str, Capture] = {}

    def __call__(self, method: str, path: str, headers: Headers) -> Inference | None:
        """Return what is to be told of this request from now on; None where it is not captured."""
        found = _MODEL.match(path)
        capture = self._capture if found is None else self._of(found[1])
        return capture.begin(method, path, headers, self._emit)

    def _of(self, name: str) -> Capture:
        capture = self._named.get(name)
        if capture is None:
            if len(self._named) >= _MOST_NAMES:
                return self._capture
            capture = self._named[name] = renamed(self._capture, name)
        return capture


def renamed(capture: Capture, name: str) -> Capture:
    """Return the same capture for another model."""
    attributes = {**capture.attributes, "inferenceservicename": name}
    source = "/namespaces/{namespace}/services/{inferenceservicename}/{component}"
    standard = source.format(**capture.attributes) == capture.source
    return replace(capture, attributes=attributes, source=source.format(**attributes) if standard else capture.source)
