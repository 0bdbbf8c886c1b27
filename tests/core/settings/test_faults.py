"""A configuration is read whole or refused whole, with every fault, its place, the value, and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferwatch.errors import ConfigError
from inferwatch.settings import Settings, load_settings
from tests.core.settings.reading import MODEL, faults

TOP = ", ".join(Settings.model_fields)


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
            MODEL % "explainers: [{method: a, predictor: 'http://a', protocol: v2, grpc_port: 9000}]",
            "models[0].explainers[0]: grpc_port is for protocol auto; v2 asks at predictor's port",
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
