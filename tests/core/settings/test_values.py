"""What settings mean: their defaults, units, files and rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from inferwatch.events import CloudEvent, Role
from inferwatch.exclusion import ComponentRule, HeaderRule
from inferwatch.promise import Promise
from inferwatch.rows import Feature
from inferwatch.settings import Settings, WindowSettings
from tests.core.settings.reading import model, read

SELDON = CloudEvent("1", "/s", "io.seldon.serving.inference.request")


def test_an_empty_file_is_all_defaults(file: Path) -> None:
    settings = read(file, "")
    assert settings.transport.kind == "embedded"
    assert settings.ingest.max_body_bytes == 32 * 1024 * 1024
    assert settings.ingest.pair_timeout_s == 60
    assert settings.models == ()


def test_on_is_a_key_and_no_flag(file: Path) -> None:
    (detector,) = model(file, "detectors: [{kind: drift, method: a, on: inputs}]").detectors
    assert detector.kind == "drift"
    assert detector.on == "inputs"
    assert read(file, "models: [{name: no, namespace: off, reference: yes}]").models[0].name == "no"


def test_paths_are_relative_to_the_file(file: Path) -> None:
    settings = read(file, "payload_log: {path: log}\nmodels: [{name: a, reference: refs/a.csv}]")
    assert settings.payload_log.path == file.parent / "log"
    assert settings.models[0].reference == file.parent / "refs" / "a.csv"
    settings = read(file, "payload_log: {path: /var/log}\nmodels: [{name: a, reference: /refs/a.csv}]")
    assert settings.payload_log.path == Path("/var/log")
    assert settings.models[0].reference == Path("/refs/a.csv")
    assert read(file, "").payload_log.path == file.parent / "data" / "payloads"


@pytest.mark.parametrize(
    ("text", "promise"),
    [
        ("{}", Promise(30, "days")),
        ("{expected_run_length_days: 2}", Promise(2, "days")),
        ("{expected_run_length_windows: 1000}", Promise(1000, "windows")),
        ("{expected_run_length_rows: 5000}", Promise(5000, "rows")),
    ],
)
def test_the_promise_has_the_unit_it_is_given_in(file: Path, text: str, promise: Promise) -> None:
    assert model(file, f"false_alarms: {text}").false_alarms.promise() == promise


def test_detectors_are_named_after_their_method_and_numbered(file: Path) -> None:
    found = model(
        file,
        "detectors: [{kind: drift, method: a}, {kind: drift, method: a}, {kind: drift, method: b, name: a-2},"
        " {kind: outlier, method: a}]",
    ).named_detectors()
    assert [name for name, _ in found] == ["a", "a-3", "a-2", "a-4"]


def test_the_token_is_read_from_a_file_beside(file: Path) -> None:
    (file.parent / "token").write_text("s3cret\n")
    assert read(file, "auth: {bearer_token_file: token}").auth.bearer_token() == "s3cret"
    assert read(file, "").auth.bearer_token() is None


@pytest.mark.parametrize("content", ["", "\n", "two words", "two\nlines", "schlüssel"])
def test_a_file_that_holds_no_token_is_named(file: Path, content: str) -> None:
    auth = read(file, "auth: {bearer_token_file: token}").auth
    with pytest.raises(ValueError, match=r"token: No such file"):
        auth.bearer_token()
    (file.parent / "token").write_text(content)
    with pytest.raises(ValueError, match=r"token: (the file is to hold one token|no ASCII text)"):
        auth.bearer_token()


def test_types_of_other_senders(file: Path) -> None:
    assert read(file, "").ingest.type_aliases.aliases().event(SELDON).role is Role.REQUEST
    text = "ingest: {type_aliases: {request: [com.shop.asked], response: []}}"
    named = read(file, text).ingest.type_aliases.aliases()
    assert named.event(SELDON).role is None
    assert named.event(replace(SELDON, type="com.shop.asked")).role is Role.REQUEST


def test_paths_of_modelmesh(file: Path) -> None:
    assert read(file, "").ingest.modelmesh == {}
    assert read(file, "ingest: {modelmesh: {/mesh-b: team-b}}").ingest.modelmesh == {"/mesh-b": "team-b"}


def test_rules_of_exclusion_are_by_header_or_by_component(file: Path) -> None:
    text = 'exclude: [{header: x-synthetic, equals: "true"}, {header: x-replay}, {component: explainer}]'
    rules = [rule.rule() for rule in read(file, text).exclude]
    assert rules == [HeaderRule("x-synthetic", "true"), HeaderRule("x-replay"), ComponentRule("explainer")]


def test_declared_features_are_features(file: Path) -> None:
    declared = model(file, "features: [{name: a, kind: numeric}, {name: b, kind: categorical, categories: [x, y]}]")
    assert [feature.feature() for feature in declared.features] == [
        Feature("a", "numeric"),
        Feature("b", "categorical", ("x", "y")),
    ]


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a setting may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections(part)


def described(section: type[BaseModel]) -> Iterator[tuple[str, bool]]:
    """Yield every plain setting below a section, and whether it says what it is."""
    for name, field in section.model_fields.items():
        below = list(sections(field.annotation))
        if not below:
            yield f"{section.__name__}.{name}", field.description is not None
        for inner in below:
            yield from described(inner)


def test_every_section_and_setting_that_is_not_plain_says_what_it_is() -> None:
    plain = {"kind", "method", "namespace", "name"}
    silent = [name for name, told in described(Settings) if not told and name.split(".")[1] not in plain]
    assert silent == []


@pytest.mark.parametrize(
    ("window", "size", "full"),
    [({}, 500, 500), ({"rows": 40}, 40, 40), ({"minutes": 5}, 500, None), ({"minutes": 5, "rows": 40}, 40, 40)],
)
def test_a_window_has_rows_unless_only_minutes_are_given(window: dict[str, float], size: int, full: int | None) -> None:
    found = WindowSettings.model_validate(window)
    assert (found.size, found.full) == (size, full)


@pytest.mark.parametrize(
    ("window", "told"),
    [
        ({"slide": 501}, "slide 501.0 leaves rows out; at most 500.0"),
        ({"minutes": 5, "slide": 6}, "slide 6.0 leaves rows out; at most 5.0"),
        ({"rows": 10, "minutes": 5, "slide": 2.5}, "slide 2.5 is a number of rows here, a whole one"),
        ({"minutes": 0}, "greater than 0"),
    ],
)
def test_a_slide_leaves_no_row_out(window: dict[str, float], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        WindowSettings.model_validate(window)
