"""What `expect` declares is checked against the reference before anything runs."""

from pathlib import Path

import numpy as np
import pytest

from inferwatch.errors import ConfigError
from inferwatch_cli.checks import checked

CONFIG = """
models:
  - name: income
    reference: reference.npy
    false_alarms: {{expected_run_length_windows: 100}}
    detectors: [{{kind: quality, window: {{rows: 50}}, expect: {expect}}}]
"""


def configured(directory: Path, expect: str) -> Path:
    np.save(directory / "reference.npy", np.random.default_rng(0).normal(size=(500, 2)))
    path = directory / "inferwatch.yaml"
    path.write_text(CONFIG.format(expect=expect))
    return path


def test_expectations_that_fit_are_good(tmp_path: Path) -> None:
    [model] = checked(configured(tmp_path, "{feature_0: {min: -9, max: 9}, feature_1: {missing_at_most: 0.02}}")).models

    assert [name for name, _ in model.settings.named_detectors()] == ["quality"]


@pytest.mark.parametrize(
    ("expect", "fault"),
    [
        ("{height: {min: 0}}", "models[0].detectors[0].expect: expect names 'height', which is no feature"),
        ("{feature_0: {min: 5, max: 1}}", "models[0].detectors[0].expect.feature_0: min 5.0 is above max 1.0"),
        ("{feature_0: {missing_at_most: 2}}", "models[0].detectors[0].expect.feature_0.missing_at_most: 2: "),
        (
            "{feature_0: {least: 2}}",
            "models[0].detectors[0].expect.feature_0.least: unknown key; allowed here: min, max",
        ),
    ],
)
def test_expectations_that_do_not_fit_are_named_with_their_path(tmp_path: Path, expect: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(configured(tmp_path, expect))

    [found] = caught.value.faults
    assert str(found).startswith(fault)
