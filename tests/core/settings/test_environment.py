"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.settings.reading import faults, read


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
