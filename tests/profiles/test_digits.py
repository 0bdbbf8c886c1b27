"""KServe's sample of an image: its server, a network that tells digits, and the heat map of what it looked at."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sklearn.datasets import load_digits

from inferwatch_cli.demo.processes import answering, free_port, running
from inferwatch_explainers.artifact import Artifact
from inferwatch_explainers.served import ExplainedModel, ExplainerSpec
from inferwatch_explainers.service import explain_router
from tests.components import ROOT, demo_python
from tests.explainers.servers import serving
from tests.profiles.worlds import World, digits

pytestmark = pytest.mark.profile

SERVER = ROOT / "tests" / "integration" / "kserve_samples_server.py"


def trained() -> Any:
    """Return a convolutional network that knows the digits."""
    torch.manual_seed(0)
    data = load_digits()
    images, labels = torch.tensor(data.images / 16, dtype=torch.float32)[:, None], torch.tensor(data.target)
    layers = torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(512, 10)
    network = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def world() -> World:
    found = digits()
    return World(found.model, found.rows / 16, found.schema)


@pytest.fixture(scope="module")
def addresses(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Start KServe's server and the explanation service; give their addresses."""
    directory, port = tmp_path_factory.mktemp("digits"), free_port()
    network = trained()
    weights = [part.detach().numpy() for part in network.parameters()]
    np.savez(directory / "w.npz", **dict(zip(("kernel", "shift", "matrix", "bias"), weights, strict=True)))
    example = torch.zeros(2, 1, 8, 8)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    torch.export.save(program, directory / "digits.pt2")
    log = directory / "server.log"
    with running([demo_python(), SERVER, str(port), str(directory / "w.npz")], log) as process:
        predictor = f"http://127.0.0.1:{port}"
        asyncio.run(answering(f"{predictor}/v2/health/ready", process, log))
        artifact = Artifact(directory / "digits.pt2", world.schema, trust_pickle=False, input_shape=(1, 8, 8))
        spec = ExplainerSpec(
            "captum.IntegratedGradients", predictor, deadline_s=60.0, artifact=artifact, input_shape=(1, 8, 8)
        )
        app = FastAPI()
        app.include_router(
            explain_router([ExplainedModel("default", "digits", world, [spec])], registry=CollectorRegistry())
        )
        with serving(app) as url:
            yield predictor, url


def post(url: str, instances: Any, accept: str = "application/json") -> bytes:
    body = json.dumps({"instances": np.asarray(instances).tolist()}).encode()
    headers = {"Content-Type": "application/json", "Accept": accept}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=120) as reply:
        return bytes(reply.read())


def test_a_digit_is_explained_by_its_strokes(addresses: tuple[str, str], world: World, tmp_path: Path) -> None:
    predictor, url = addresses
    images = world.rows[:20].reshape(-1, 1, 8, 8)
    entries = json.loads(post(f"{url}/v1/models/digits:explain", images))["explanations"]

    def scores(rows: Any) -> Any:
        return np.array(json.loads(post(f"{predictor}/v1/models/digits:predict", rows))["predictions"])

    said = scores(images)
    generator = np.random.default_rng(0)
    without, at_random = images.reshape(20, 64).copy(), images.reshape(20, 64).copy()
    for row, entry in enumerate(entries):
        assert entry["shape"] == [1, 8, 8]
        assert entry["target"] == said[row].argmax()
        assert entry["prediction"] == pytest.approx(said[row].max(), rel=1e-4)
        inked = np.flatnonzero(without[row])
        without[row, np.argsort(entry["values"])[-8:]] = 0
        at_random[row, generator.choice(inked, 8, replace=False)] = 0
    kept = [scores(rows)[range(20), said.argmax(axis=1)].mean() for rows in (without, at_random)]
    assert kept[0] < kept[1] - 2  # what was said to speak for a class does

    drawn = post(f"{url}/v1/models/digits:explain", images[:2], "image/png")
    (tmp_path / "digits.png").write_bytes(drawn)
    assert drawn.startswith(b"\x89PNG")
