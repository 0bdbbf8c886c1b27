"""Which traffic is stored and not judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from inferwatch.events import ORIGIN_HEADER, CloudEvent
from inferwatch.origin import Origin
from inferwatch.wire.metadata import logged_headers

_ORIGIN: Final = ORIGIN_HEADER.lower()


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """Events whose logged request headers have `header`, in any case, with the value `equals`; any value where None."""

    header: str
    equals: str | None = None


@dataclass(frozen=True, slots=True)
class ComponentRule:
    """Events of a component of the InferenceService."""

    component: str


Rule = HeaderRule | ComponentRule


class Exclusion:
    """Tells which payload halves no detector may count: what is never judged, and what the rules name beside."""

    def __init__(self, rules: Sequence[Rule] = (), origin: Origin | None = None) -> None:
        self._origin = origin or Origin()
        self._headers = [(rule.header.lower(), rule.equals) for rule in rules if isinstance(rule, HeaderRule)]
        self._components = {rule.component for rule in rules if isinstance(rule, ComponentRule)}

    def reason(self, event: CloudEvent, protocol: str) -> str | None:
        """Return why the payload half is not judged, or None.

        `explain`: a call that an explainer made to its predictor, by its id, by the origin header among the logged
        metadata, or because the component is an explainer; where marks are signed, the header alone is none.
        `health`: a probe or a question about metadata. `rule`: a rule names it.
        """
        component = event.component
        if self._origin.is_ours(event.id) or component == "explainer":
            return "explain"
        metadata = event.extensions.get("metadata", "")
        headers = logged_headers(metadata) if self._headers or _ORIGIN in metadata.lower() else {}
        if not self._origin.signs and headers.get(_ORIGIN, ())[:1] == ["explain"]:
            return "explain"
        if protocol == "health":
            return "health"
        return "rule" if component in self._components or self._named(headers) else None

    def _named(self, headers: Mapping[str, Sequence[str]]) -> bool:
        return any(name in headers and (value is None or value in headers[name]) for name, value in self._headers)
