"""A detector from elsewhere is found by its name, told what it asks for, and refused where it is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.errors import InvalidOption
from inferwatch.payload_log.journal import Journal
from inferwatch_detectors.plugins import entry_for
from tests.components import missing
from tests.inferences import NOON, request

EXAMPLE = Path(__file__).parents[2] / "examples" / "inferwatch-median"
CONFIG = """
payload_log: {{path: data}}
models:
  - name: income
    reference: reference.npy
    burn_in_rows: 0
    false_alarms: {{expected_run_length_windows: 1000}}
    detectors: [{{kind: {kind}, method: {method}{window}}}]
"""


@pytest.mark.parametrize(
    ("kind", "method", "told"),
    [
        ("drift", "tarot", "'tarot': unknown method"),
        ("drift", "nowhere:Tarot", "'nowhere:Tarot': cannot be imported: No module named 'nowhere'"),
        ("drift", "inferwatch.promise:Tarot", "'inferwatch.promise:Tarot': cannot be imported: "),
        ("drift", "inferwatch.promise:Promise", "is a detector of kind None, not 'drift'"),
        ("outlier", "inferwatch_median:MedianDrift", "is a detector of kind 'drift', not 'outlier'"),
    ],
)
def test_what_is_no_detector_is_refused(kind: str, method: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    with pytest.raises(InvalidOption) as refused:
        entry_for(kind, method)
    assert told in str(refused.value)


@pytest.mark.integration
def test_the_example_is_installed_checked_and_run(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        missing("uv", "make setup-test")
    site = tmp_path / "site"
    copy = tmp_path / "example"
    subprocess.run(["cp", "-r", str(EXAMPLE), str(copy)], check=True)
    install = [str(uv), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", str(site)]
    subprocess.run([*install, str(copy)], check=True)
    random = np.random.default_rng(0)
    np.save(tmp_path / "reference.npy", random.normal(size=(3000, 2)))
    with Journal.open(tmp_path / "data", clock=ManualClock(NOON + 86_400 * NS_PER_S)) as journal:
        events = [request(f"r{n}", n, random.normal(n >= 10, 1, (20, 2)).tolist()) for n in range(20)]
        journal.append(events).result()
    config = tmp_path / "inferwatch.yaml"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}

    def inferwatch(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "inferwatch_cli", *arguments, "--config", str(config)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    config.write_text(CONFIG.format(kind="drift", method="median", window=", window: {rows: 100}"))
    assert inferwatch("check").returncode == 0
    (line,) = inferwatch("replay").stdout.splitlines()
    assert line.startswith(
        "default/income median: 4 windows, would have alarmed once: 2026-11-21T12:00:14Z (the median"
    )
    config.write_text(CONFIG.format(kind="outlier", method="median", window=""))
    refused = inferwatch("check")
    assert (refused.returncode, refused.stderr.strip()) == (
        2,
        "inferwatch: models[0].detectors[0].method: 'median': is a detector of kind 'drift', not 'outlier'",
    )
