"""Capture: what of a model server's traffic becomes events, and what these say; whoever relays it.

Captured is every HTTP request but OPTIONS and HEAD, probes (user agent `kube-probe/...`, header `K-Network-Probe`) and
scrapes of `/metrics`; with `paths`, of those only the ones whose path matches one of the globs (`*` also matches `/`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase, translate
from typing import Any, Final, Literal

import orjson

from inferwatch.errors import ConfigError, Fault
from inferwatch.events import ORIGIN_HEADER
from inferwatch.redaction import Redaction
from inferwatch.sampling import Sampling
from inferwatch.wire.privacy import is_secret

Mode = Literal["all", "request", "response"]

UNNAMED: Final = "unknown"
"""The model where neither anybody nor the path names one."""

_MODES: Final = ("all", "request", "response")
_UNCAPTURED_METHODS: Final = frozenset({"OPTIONS", "HEAD"})
_OF_A_MODEL: Final = ("enabled", "mode", "sample", "redact", "max_body_bytes")


@dataclass(frozen=True, slots=True)
class Capture:
    """What is captured, and what every event says. `metadata`: header names in lower case -> as they are written.

    `models` has what is captured of single models, by globs of their names, None where nothing is. `by_path`: events
    are said to be of the model that the path names.
    """

    enabled: bool
    requests: bool
    responses: bool
    max_body_bytes: int
    source: str
    attributes: dict[str, str]
    metadata: dict[bytes, str]
    paths: re.Pattern[str] | None
    sampling: Sampling | None
    redaction: Redaction | None
    by_path: bool
    models: Mapping[str, Capture]

    @classmethod
    def of(
        cls,
        *,
        name: str | None = None,
        namespace: str = "default",
        component: str = "predictor",
        endpoint: str = "default",
        enabled: bool = True,
        mode: Mode = "all",
        metadata_headers: Iterable[str] = (),
        annotations: Mapping[str, str] | None = None,
        paths: Iterable[str] | None = None,
        sample: Mapping[str, Any] | None = None,
        redact: Sequence[str | Mapping[str, Any]] = (),
        max_body_bytes: int = 1_048_576,
        models: Mapping[str, Mapping[str, Any]] | None = None,
        source: str | None = None,
    ) -> Capture:
        """Return what these options ask for. Raises `ConfigError` with every fault.

        `name`: the served model; None where V1 and V2 paths name it. `mode`: which events to send. `metadata_headers`:
        request headers to carry in `metadata`, in any case; credentials never are. `annotations`: of the served model,
        said of every event. `sample`: see `Sampling.of`. `redact`: see `inferwatch.redaction`. `max_body_bytes`: longer
        bodies are cut and marked. `models`: `enabled`, `mode`, `sample`, `max_body_bytes` and further `redact` of
        single models, by globs of the names that paths have; the first counts.
        """
        faults = list(_misgiven(name, metadata_headers=metadata_headers, paths=paths))
        general = {
            "enabled": enabled, "mode": mode, "sample": sample, "redact": redact, "max_body_bytes": max_body_bytes,
        }  # fmt: skip
        said = {"annotations": orjson.dumps(annotations, option=orjson.OPT_SORT_KEYS).decode()} if annotations else {}
        attributes = {"inferenceservicename": name or UNNAMED, "namespace": namespace, "component": component}
        whole = cls(
            **_rules(general, "", faults),
            source=source or f"/namespaces/{namespace}/services/{name or UNNAMED}/{component}",
            attributes={**attributes, "endpoint": endpoint, **said},
            metadata=_wanted(metadata_headers),
            paths=None if paths is None else re.compile("|".join(map(translate, paths)) or r"(?!)"),
            by_path=name is None,
            models={},
        )
        single = {
            pattern: replace(whole, **_rules(_merged(general, given, pattern, faults), pattern, faults))
            for pattern, given in (models or {}).items()
        }
        if faults:
            raise ConfigError(faults)
        return replace(whole, models=single)

    def takes(self, method: str, path: str, first: Mapping[bytes, bytes]) -> bool:
        """Say whether a request is captured, sampling left aside."""
        if not self.enabled or method in _UNCAPTURED_METHODS or path.rstrip("/").endswith("/metrics"):
            return False
        if self.paths is not None and self.paths.match(path) is None:
            return False
        return b"k-network-probe" not in first and not first.get(b"user-agent", b"").startswith(b"kube-probe/")

    def of_model(self, name: str) -> Capture:
        """Return what is captured of the model that a path names."""
        found = next((single for pattern, single in self.models.items() if fnmatchcase(name, pattern)), self)
        return found.renamed(name) if self.by_path else found

    def renamed(self, name: str) -> Capture:
        """Return the same for another model."""
        attributes = {**self.attributes, "inferenceservicename": name}
        source = "/namespaces/{namespace}/services/{inferenceservicename}/{component}"
        standard = source.format(**self.attributes) == self.source
        return replace(self, attributes=attributes, source=source.format(**attributes) if standard else self.source)


def _misgiven(name: str | None, **lists: Iterable[str] | None) -> Iterator[Fault]:
    if name == "":
        yield Fault("name", "is empty; allowed is the name of the served model")
    for option, value in lists.items():
        if isinstance(value, str):
            yield Fault(option, f"{value!r} is one text; allowed is a list")


def _rules(given: Mapping[str, Any], model: str, faults: list[Fault]) -> dict[str, Any]:
    """Return the fields of a capture that may differ from model to model; note what is wrong with them."""
    where = f"models.{model}." if model else ""
    mode, size, enabled = given["mode"], given["max_body_bytes"], given["enabled"]
    if not isinstance(enabled, bool):
        faults.append(Fault(f"{where}enabled", f"{enabled!r} is neither true nor false"))
    if mode not in _MODES:
        faults.append(Fault(f"{where}mode", f"{mode!r} is none of {', '.join(_MODES)}"))
    if not isinstance(size, int) or size < 0:
        faults.append(Fault(f"{where}max_body_bytes", f"{size!r} is no number of bytes, 0 or more"))
    sampling = redaction = None
    try:
        sampling = None if given["sample"] is None else Sampling.of(given["sample"])
    except ValueError as error:
        faults.append(Fault(f"{where}sample", str(error)))
    try:
        redaction = Redaction(_listed(given["redact"])) if given["redact"] else None
    except ValueError as error:
        faults.append(Fault(f"{where}redact", str(error)))
    return {
        "enabled": enabled,
        "requests": mode != "response",
        "responses": mode != "request",
        "max_body_bytes": size,
        "sampling": sampling,
        "redaction": redaction,
    }


def _listed(value: Sequence[Any]) -> Sequence[Any]:
    if isinstance(value, str):
        raise ValueError(f"{value!r} is one text; allowed is a list")
    return value


def _merged(general: Mapping[str, Any], given: Any, model: str, faults: list[Fault]) -> Mapping[str, Any]:  # noqa: ANN401 - from a configuration
    """Return the general options with those of one model, whose `redact` comes on top."""
    if not isinstance(given, Mapping) or (unknown := sorted(set(given) - set(_OF_A_MODEL))):
        what = f"{given!r} is no mapping" if not isinstance(given, Mapping) else f"{unknown[0]}: unknown key"
        faults.append(Fault(f"models.{model}", f"{what}; allowed here: {', '.join(_OF_A_MODEL)}"))
        return general
    own = {name: value for name, value in given.items() if value is not None}
    further = own.get("redact", ())
    redact = further if isinstance(further, str) else [*general["redact"], *further]
    return {**general, **own, "redact": redact}


def _wanted(names: Iterable[str]) -> dict[bytes, str]:
    """Header names in lower case -> as Go, and so KServe, writes them."""
    return {
        name.lower().encode("latin-1"): "-".join(part.capitalize() for part in name.split("-"))
        for name in (*names, ORIGIN_HEADER)
        if not is_secret(name)
    }
