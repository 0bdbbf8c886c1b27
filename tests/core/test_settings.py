"""A configuration is read whole or refused whole, with every fault, its place, the value, and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from inferwatch.errors import ConfigError
from inferwatch.events import CloudEvent, Role
from inferwatch.exclusion import ComponentRule, HeaderRule
from inferwatch.promise import Promise
from inferwatch.rows import Feature
from inferwatch.settings import ModelSettings, Settings, WindowSettings, load_settings

SELDON = CloudEvent("1", "/s", "io.seldon.serving.inference.request")
TOP = ", ".join(Settings.model_fields)
MODEL = "models: [{name: income, reference: ref.csv, %s}]"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.upper().startswith("INFERWATCH_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "inferwatch.yaml"


def read(file: Path, text: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def faults(file: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(file, text)
    return [str(fault) for fault in refused.value.faults]


def model(file: Path, text: str) -> ModelSettings:
    return read(file, MODEL % text).models[0]


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


def test_every_fault_is_told_at_once(file: Path) -> None:
    text = """
transport: {kind: nats}
ingest: {max_body_bytes: 10, pair_timeout_s: soon}
colour: red
models:
  - reference: 5
    detectors:
      - {kind: drift, method: histogram, window: {rows: 1}, speed: 3}
      - {kind: outlier, method: mahalanobis, false_alarm_rate: 2}
      - {kind: magic, method: histogram}
      - {method: histogram}
"""
    assert faults(file, text) == [
        "transport.kind: 'nats': input should be one of 'embedded', 'kafka'",
        "ingest.max_body_bytes: 10: input should be greater than or equal to 1024",
        "ingest.pair_timeout_s: 'soon': input should be a valid number, unable to parse string as a number",
        "models[0].name: is required and absent",
        "models[0].reference: 5: input should be a path",
        "models[0].detectors[0].window.rows: 1: input should be greater than or equal to 2",
        "models[0].detectors[0].speed: unknown key; allowed here: name, method, component, on, kind, against, window",
        "models[0].detectors[1].false_alarm_rate: 2: input should be less than 1",
        "models[0].detectors[2].kind: 'magic': input should be one of 'drift', 'outlier', 'quality'",
        "models[0].detectors[3].kind: is required and absent",
        "colour: unknown key; allowed here: transport, payload_log, ingest, capture, auth, explain, exclude, fleet,"
        " models",
    ]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("x: 1", "x"),
        ("_env_file: x", "_env_file"),
        ("transport: {kind: embedded, x: 1}", "transport.x"),
        ("payload_log: {x: 1}", "payload_log.x"),
        ("ingest: {x: 1}", "ingest.x"),
        ("explain: {x: 1}", "explain.x"),
        ("auth: {x: 1}", "auth.x"),
        ("exclude: [{component: a, x: 1}]", "exclude[0].x"),
        (MODEL % "x: 1", "models[0].x"),
        (MODEL % "false_alarms: {x: 1}", "models[0].false_alarms.x"),
        (MODEL % "features: [{name: a, kind: numeric, x: 1}]", "models[0].features[0].x"),
        (MODEL % "detectors: [{kind: outlier, method: a, x: 1}]", "models[0].detectors[0].x"),
        (MODEL % "detectors: [{kind: drift, method: a, window: {x: 1}}]", "models[0].detectors[0].window.x"),
        (MODEL % "explainers: [{method: a, predictor: 'http://a', x: 1}]", "models[0].explainers[0].x"),
    ],
)
def test_unknown_keys_are_refused_at_every_level(file: Path, text: str, path: str) -> None:
    (fault,) = faults(file, text)
    assert fault.startswith(f"{path}: unknown key; allowed here: ")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("ingest: 5", "ingest: 5: input should be a mapping"),
        ("ingest: {pair_timeout_s: .inf}", "ingest.pair_timeout_s: inf: input should be less than or equal to 86400"),
        ("ingest: {pair_timeout_s: 0}", "ingest.pair_timeout_s: 0: input should be greater than 0"),
        ("ingest: {max_inflight_bytes: 1}", "ingest.max_inflight_bytes: 1: input should be greater than or equal to"),
        ("explain: {max_queue: 0}", "explain.max_queue: 0: input should be greater than or equal to 1"),
        ("exclude: [{}]", "exclude[0]: a rule has either `header` or `component`"),
        ("exclude: [{header: a, component: b}]", "exclude[0]: a rule has either `header` or `component`"),
        ("exclude: [{component: a, equals: b}]", "exclude[0]: `equals` is the value of a `header`"),
        ("exclude: [{header: a, equals: true}]", "exclude[0].equals: True: input should be a valid string"),
        (
            "exclude: [{header: X-Api-Key}]",
            "exclude[0]: authorization, cookie, proxy-authorization, x-api-key are never",
        ),
        ("payload_log: {retention_days: 0}", "payload_log.retention_days: 0: input should be greater than 0"),
        (
            "payload_log: {segment_bytes: 1}",
            "payload_log.segment_bytes: 1: input should be greater than or equal to 4096",
        ),
        ("payload_log: {segment_minutes: 0}", "payload_log.segment_minutes: 0: input should be greater than 0"),
        ("payload_log: {redact: [ssn]}", "payload_log.redact[0]: 'ssn': a rule is `headers.NAME`, or a JSON path"),
        ("auth: {ingest_path_prefix: a/b}", "auth.ingest_path_prefix: 'a/b': string should match pattern"),
        ("auth: {ingest_path_prefix: /}", "auth.ingest_path_prefix: '/': string should match pattern"),
        ("payload_log: {durability: tape}", "payload_log.durability: 'tape': input should be 'process' or 'disk'"),
        ("models: 5", "models: 5: input should be a list"),
        ("models: [5]", "models[0]: 5: input should be a mapping"),
        ("models: [{name: a, reference: r}, {name: a, reference: s}]", "models: default/a is configured twice"),
        (MODEL % "reference_rows: 1", "models[0].reference_rows: 1: input should be greater than or equal to 2"),
        (MODEL % "burn_in_rows: -1", "models[0].burn_in_rows: -1: input should be greater than or equal to 0"),
        (
            MODEL % "features: [{name: a, kind: numeric}, {name: a, kind: numeric}]",
            "models[0].features: feature a is declared twice",
        ),
        (
            MODEL % "features: [{name: a, kind: numeric, categories: [b]}]",
            "models[0].features[0]: categories are for categorical features; a is numeric",
        ),
        (
            MODEL % "features: [{name: a, kind: categorical, categories: [b, b]}]",
            "models[0].features[0]: category 'b' is listed twice",
        ),
        (
            MODEL % "detectors: [{kind: drift, name: a, method: b}, {kind: outlier, name: a, method: c}]",
            "models[0].detectors: two detectors are named a",
        ),
        (
            MODEL % "detectors: [{kind: quality, on: explanations}]",
            "models[0]: explanations are for drift, not for quality",
        ),
        (
            "models: [{name: a, reference: {v1: a.csv}, detectors: [{kind: drift, on: explanations}]}]",
            "models[0]: explanations name no model version, so that references by version judge none",
        ),
        (
            MODEL % "false_alarms: {expected_run_length_days: 1, expected_run_length_rows: 9}",
            "models[0].false_alarms: one unit of expected_run_length is allowed, not days and rows",
        ),
        (
            MODEL % "false_alarms: {expected_run_length_windows: 1}",
            "models[0].false_alarms.expected_run_length_windows: 1: input should be greater than 1",
        ),
        (
            MODEL % "false_alarms: {expected_run_length_days: .inf}",
            "models[0].false_alarms.expected_run_length_days: inf: input should be a finite number",
        ),
        (
            MODEL % "false_alarms: {smallest_effect: 5}",
            "models[0].false_alarms.smallest_effect: 5: input should be less than 5",
        ),
        (
            MODEL % "explainers: [{method: a, predictor: 'income:80'}]",
            "models[0].explainers[0].predictor: 'income:80': string should match pattern",
        ),
        (
            MODEL % "explainers: [{method: a, predictor: 'http://a', deadline_s: 0}]",
            "models[0].explainers[0].deadline_s: 0: input should be greater than 0",
        ),
        (
            MODEL % "explainers: [{method: a, predictor: 'http://a', samples: 1}]",
            "models[0].explainers[0].samples: 1: input should be greater than or equal to 2",
        ),
        (
            MODEL % "explainers: [{method: a, predictor: 'http://a', protocol: soap}]",
            "models[0].explainers[0].protocol: 'soap': input should be 'auto', 'v1'",
        ),
        (
            MODEL % ("detectors: [{kind: drift, method: " + "x" * 200 + ", on: answers}]"),
            "models[0].detectors[0].on",
        ),
        (
            "ingest: {type_aliases: {request: [a], response: [b, a]}}",
            "ingest.type_aliases: 'a' stands for both",
        ),
        ("ingest: {type_aliases: {request: ['']}}", "ingest.type_aliases.request: '' is no event type of another"),
        (
            "ingest: {type_aliases: {response: [org.kubeflow.serving.inference.request]}}",
            "ingest.type_aliases.response: 'org.kubeflow.serving.inference.request' is no event type of another",
        ),
        (
            "ingest: {type_aliases: {request: [io.inferwatch.finding.drift]}}",
            "ingest.type_aliases.request: 'io.inferwatch.finding.drift' is no event type of another sender",
        ),
        (
            "ingest: {type_aliases: {both: [a]}}",
            "ingest.type_aliases.both: unknown key; allowed here: request, response",
        ),
        ("ingest: {modelmesh: {/api/x: a}}", "ingest.modelmesh: '/api/x' cannot be a path for payloads"),
        ("ingest: {modelmesh: {mesh: a}}", "ingest.modelmesh: 'mesh' cannot be a path for payloads"),
        ("ingest: {modelmesh: {/mesh: ''}}", "ingest.modelmesh: /mesh has no namespace"),
        (f"ingest: {{max_body_bytes: {'x' * 200}}}", f"ingest.max_body_bytes: '{'x' * 76}...: input should be a valid"),
        ("fleet: {}", "fleet.false_discovery_rate: is required and absent"),
        ("fleet: {false_discovery_rate: 1}", "fleet.false_discovery_rate: 1: input should be less than 1"),
        ("fleet: {false_discovery_rate: 0.1, rate: 1}", "fleet.rate: unknown key; allowed here: false_discovery_rate"),
        (
            "models: [{name: a, reference: {rolling: {days: 1, lag_days: 2}}}]",
            "models[0].reference.rolling: lag_days 2.0 is more than days 1.0",
        ),
        (
            "models: [{name: a, reference: {rolling: {days: 28}, logged: {last: 9}}}]",
            "models[0].reference: a reference of live rows is either `logged` or `rolling`",
        ),
    ],
)
def test_a_fault_names_place_value_and_what_is_allowed(file: Path, text: str, fault: str) -> None:
    (found,) = faults(file, text)
    assert found.startswith(fault)
    assert "\n" not in found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "not YAML"),
        ("ingest: {}\n\tmodels: []", "not YAML"),
        ("- 1", "the file is to hold one mapping of settings"),
        ("5: 1", "the file is to hold one mapping of settings"),
        ("models: []\nmodels: []", "key 'models' stands twice"),
        ("ingest: {max_body_bytes: 2048, max_body_bytes: 4096}", "key 'max_body_bytes' stands twice"),
        ("a: !!python/object:os.system {}", "not YAML"),
        ("a: 2026-13-45", "not YAML: month must be in 1..12"),
        ("[" * 1000, "not YAML: maximum recursion depth"),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line_with_the_files_name(
    file: Path, text: str, reason: str
) -> None:
    (found,) = faults(file, text)
    assert found.startswith(f"{file}: ")
    assert reason in found
    assert "\n" not in found


def test_a_file_that_cannot_be_read_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"inferwatch\.yaml: No such file or directory"):
        load_settings(file)
    with pytest.raises(ConfigError, match="Is a directory"):
        load_settings(file.parent)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="not YAML"):
        load_settings(file)


def test_the_environment_overrides_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERWATCH_INGEST__PAIR_TIMEOUT_S", "5")
    monkeypatch.setenv("INFERWATCH_PAYLOAD_LOG__PATH", "elsewhere")
    settings = read(file, "ingest: {max_body_bytes: 2048, pair_timeout_s: 9}")
    assert (settings.ingest.max_body_bytes, settings.ingest.pair_timeout_s) == (2048, 5)
    assert settings.payload_log.path == file.parent / "elsewhere"
    monkeypatch.setenv("INFERWATCH_MODELS", '[{"name": "b", "reference": "r"}]')
    assert [model.name for model in read(file, "models: [{name: a, reference: r}]").models] == ["b"]


def test_a_fault_from_the_environment_names_the_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERWATCH_INGEST__MAX_BODY_BYTES", "many")
    monkeypatch.setenv("INFERWATCH_INGEST__COLOUR", "red")
    assert faults(file, "colour: red") == [
        "ingest.max_body_bytes: 'many': input should be a valid integer, unable to parse string as an integer"
        " (from the environment, INFERWATCH_INGEST__MAX_BODY_BYTES)",
        "ingest.colour: unknown key; allowed here: max_body_bytes, pair_timeout_s, request_timeout_s,"
        " max_inflight_bytes, type_aliases, modelmesh"
        " (from the environment, INFERWATCH_INGEST__COLOUR)",
        "colour: unknown key; allowed here: transport, payload_log, ingest, capture, auth, explain, exclude, fleet,"
        " models",
    ]


def test_a_section_from_the_environment_is_to_be_json(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERWATCH_MODELS", "[{")
    assert faults(file, "") == ["models: '[{': input should be JSON (from the environment, INFERWATCH_MODELS)"]


def test_variables_that_kubernetes_sets_for_a_service_are_no_settings(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERWATCH_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("INFERWATCH_SERVICE_HOST", "10.0.0.1")
    assert read(file, "") == read(file, "{}")


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
