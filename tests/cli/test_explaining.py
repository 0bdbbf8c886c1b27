"""`inferwatch explain` as a process, started as KServe starts an explainer container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from inferwatch.rows import Feature, Schema
from tests.explainers.servers import ModelServer, serving

pytestmark = pytest.mark.integration

SCHEMA = Schema((Feature("a", "numeric"), Feature("b", "numeric")))
ROWS = np.random.default_rng(0).normal(size=(80, 2))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    pd.DataFrame(ROWS, columns=["a", "b"]).to_csv(tmp_path / "ref.csv", index=False)
    path = tmp_path / "inferwatch.yaml"
    path.write_text("models: [{name: m, reference: ref.csv, explainers: [{method: exact_shapley}]}]")
    return path


@contextmanager
def explaining(*arguments: str) -> Iterator[str]:
    """Start the command, yield its address, and stop it with SIGTERM; it has to end with 0."""
    command = [sys.executable, "-m", "inferwatch_cli", "explain", "--host", "127.0.0.1", *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        try:
            assert said.startswith("inferwatch explains "), said
            yield said.split()[-1]
        finally:
            process.terminate()
    assert process.returncode == 0


def answer(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as reply:
        text = reply.read().decode()
    return json.loads(text) if text[:1] == "{" else text


def test_it_serves_what_kserve_asks_of_an_explainer(config: Path) -> None:
    server = ModelServer(SCHEMA, lambda rows: rows @ np.array([2.0, -1.0]))
    with serving(server.application()) as predictor:
        kserves = ["--model_name", "m", "--predictor_host", predictor.removeprefix("http://"), "--http_port", "0"]
        unknown = ["--workers", "1", "--enable_grpc", "false", "--predictor_request_timeout_seconds", "600"]
        with explaining("--config", str(config), *kserves, *unknown) as url:
            assert answer(f"{url}/") == {"status": "alive"}
            assert answer(f"{url}/v1/models") == {"models": ["m"]}
            assert answer(f"{url}/v1/models/m") == {"name": "m", "ready": True}
            assert answer(f"{url}/v2/health/ready") == {"ready": True}
            assert answer(f"{url}/v2/health/live") == {"live": True}
            assert answer(f"{url}/v2/models/m/ready") == {"name": "m", "ready": True}
            for path in ("/v1/models/nope", "/nope"):
                with pytest.raises(urllib.error.HTTPError) as fault:
                    answer(f"{url}{path}")
                with fault.value as reply:
                    assert (reply.code, list(json.loads(reply.read()))) == (404, ["error"])
            [entry] = answer(f"{url}/v1/models/m:explain", {"instances": [[1.0, 1.0]]})["explanations"]
            np.testing.assert_allclose(entry["values"], [2 * (1 - ROWS[:, 0].mean()), -(1 - ROWS[:, 1].mean())])
            assert 'request_explain_seconds_count{model_name="m"} 1.0' in answer(f"{url}/metrics")
    assert {call.path for call in server.calls} == {"/v1/models/m:predict"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "models[0].explainers[0]: an explainer needs a `predictor`"),
        (["--model_name", "other", "--predictor_host", "h"], "--model_name: 'other' has no explainer here"),
        (
            ["--predictor_host", "h", "--predictor_protocol", "v3"],
            "--predictor_protocol: 'v3': allowed here: v1, v2, grpc-v2",
        ),
    ],
)
def test_what_cannot_be_served_is_exit_2_and_one_line(config: Path, arguments: list[str], says: str) -> None:
    command = [sys.executable, "-m", "inferwatch_cli", "explain", "--config", str(config), "--port", "0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"inferwatch: {says}")
