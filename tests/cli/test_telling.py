"""Explanations reach the payload log: of `up` its own, of `explain` that of the ingest it is told of."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from inferwatch.errors import ConfigError
from inferwatch.events import REQUEST_TYPE
from inferwatch_cli.checks import checked
from inferwatch_cli.explained import explained_models
from inferwatch_cli.explaining import explain_application
from inferwatch_cli.up import open_up
from tests.explainers.explaining import SCHEMA, sample, score
from tests.explainers.servers import ModelServer, serving
from tests.waiting import eventually

ROW = {"age": 39, "hours": 40, "work": "Private"}


@pytest.fixture
def predictor() -> Iterator[str]:
    """Serve the model and give its address."""
    with serving(ModelServer(SCHEMA, lambda rows: np.where(score(rows) > 9, "rich", "poor")).application()) as url:
        yield url


@contextmanager
def watching(directory: Path, predictor: str, **sections: Any) -> Iterator[str]:
    """Serve `up` and give its address."""
    with (
        open_up(checked(config(directory, predictor, **sections)), directory / "log") as up,
        serving(up.application) as url,
    ):
        yield url


def config(directory: Path, predictor: str, **sections: Any) -> Path:
    frame = pd.DataFrame(SCHEMA.decode(sample().rows), columns=list(SCHEMA.names))
    frame.to_csv(directory / "ref.csv", index=False)
    explainer = {"method": "exact_shapley", "predictor": predictor}
    model = {"name": "m", "reference": str(directory / "ref.csv"), "explainers": [explainer]}
    path = directory / "inferwatch.yaml"
    path.write_text(json.dumps({"models": [model], **sections}))
    return path


def post(url: str, body: object, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **named})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read() or b"null")
    except urllib.error.HTTPError as fault:
        raise AssertionError(fault.read()) from fault


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return json.loads(reply.read())


def log_request(up: str, identity: str, row: dict[str, Any]) -> None:
    envelope = {"ce_specversion": "1.0", "ce_source": "s", "ce_type": REQUEST_TYPE, "ce_id": identity}
    post(f"{up}/events", {"instances": [row]}, **envelope, ce_inferenceservicename="m", ce_namespace="default")


def explained(up: str, identity: str, count: int) -> list[dict[str, Any]]:
    """Return the explanations of a payload once there are so many."""

    def so_many() -> Any:
        items = get(f"{up}/api/payloads?id={identity}")["items"]
        found = get(f"{up}/api/payloads/{items[0]['key']}")["explanations"] if items else []
        return found if len(found) >= count else None

    found: list[dict[str, Any]] = eventually(f"{identity} has {count} explanations", so_many)
    return found


def test_up_keeps_its_explanations_and_shows_them_at_the_payload(tmp_path: Path, predictor: str) -> None:
    with watching(tmp_path, predictor) as up:
        log_request(up, "p-1", ROW)
        log_request(up, "p-2", {**ROW, "age": 61})
        body = {"instances": [[39.0, 40.0, "Private"]]}
        reply = post(f"{up}/v1/models/m:explain", body)
        named = {"instances": [[20, 20, "Other"]], "parameters": {"method": "counterfactual"}}
        post(f"{up}/v1/models/m:explain", named, ce_id="p-2")
        (by_row,) = explained(up, "p-1", 1)
        (by_id,) = explained(up, "p-2", 1)
        ledger = get(f"{up}/api/ledger")["ingest"]
    assert by_row["row"] == 0
    assert {name: by_row[name] for name in reply["explanations"][0]} == reply["explanations"][0]
    assert (by_id["row"], by_id["method"]) == (None, "counterfactual")
    assert (ledger["stored"], ledger["received"], ledger["ignored"]) == (4, 4, {})
    with watching(tmp_path, predictor) as up:  # kept, not only remembered
        assert explained(up, "p-1", 1) == [by_row]


def test_explain_sends_its_explanations_to_an_ingest(tmp_path: Path, predictor: str) -> None:
    with watching(tmp_path, predictor) as up:
        log_request(up, "p-1", ROW)
        own = tmp_path / "own"
        own.mkdir()
        configuration = checked(config(own, predictor, explain={"sink": f"{up}/events"}))
        with serving(explain_application(configuration, explained_models(configuration.models))) as explainer:
            reply = post(f"{explainer}/v1/models/m:explain", {"instances": [ROW]})
            (told,) = explained(up, "p-1", 1)

            def delivered() -> bool:
                with urllib.request.urlopen(f"{explainer}/metrics", timeout=30) as metrics:
                    return b'inferwatch_explain_events_total{outcome="delivered"} 1.0' in metrics.read()

            assert eventually("it is delivered", delivered)
    np.testing.assert_allclose(told["values"], reply["explanations"][0]["values"])


def test_where_bodies_are_redacted_up_keeps_no_row_of_an_explanation(tmp_path: Path, predictor: str) -> None:
    with watching(tmp_path, predictor, payload_log={"redact": ["$.instances[*].age"]}) as up:
        log_request(up, "p-1", ROW)
        asked = {"instances": [ROW], "parameters": {"method": "counterfactual"}}
        assert post(f"{up}/v1/models/m:explain", asked, ce_id="p-1")["explanations"][0]["counterfactual"]
        (told,) = explained(up, "p-1", 1)
    assert "counterfactual" not in told
    assert told["row"] is None


@pytest.mark.parametrize("sink", ["ingest", "ftp://h/", "http://a:b@h/"])
def test_a_sink_that_cannot_be_used_is_named(tmp_path: Path, predictor: str, sink: str) -> None:
    with pytest.raises(ConfigError, match=r"explain\.sink"):
        explain_application(checked(config(tmp_path, predictor, explain={"sink": sink})), [])
