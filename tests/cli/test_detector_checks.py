"""What a configuration says about outputs, segments and endpoints is checked against the reference."""

from pathlib import Path

import numpy as np
import pytest

from inferwatch.errors import ConfigError
from inferwatch_cli.checks import Checked, checked

CONFIG = """
models:
  - name: income
    reference: reference.npy
    outputs: {outputs}
    segments: [{{by: {by}}}]
    detectors: [{{kind: drift}}, {{kind: drift, on: {on}, against: {against}}}]
"""


def configured(directory: Path, **changed: str) -> Checked:
    np.save(directory / "reference.npy", np.random.default_rng(0).normal(size=(5000, 3)))
    path = directory / "inferwatch.yaml"
    named = {"outputs": "[feature_2]", "by": "feature_0", "on": "predictions", "against": "null"}
    path.write_text(CONFIG.format(**named | changed))
    return checked(path)


def test_outputs_are_no_inputs(tmp_path: Path) -> None:
    [model] = configured(tmp_path).models
    assert model.reference is not None
    assert model.reference.schema.names == ("feature_0", "feature_1")
    assert model.given is not None
    assert model.given.schema.names == ("feature_0", "feature_1", "feature_2")


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"by": "region"}, "models[0].segments[0].by: 'region': is no feature; there are feature_0, feature_1"),
        ({"by": "{headers: a}"}, "models[0].segments[0].by.header: is required and absent"),
        ({"by": "[a]"}, "models[0].segments[0].by: "),
        ({"outputs": "[answer]"}, "models[0].reference: {file}: output 'answer' is not among the columns: feature_0"),
        ({"outputs": "[feature_0, feature_1, feature_2]"}, "models[0].outputs: name all columns of the reference"),
        ({"against": "{endpoint: stable}"}, "models[0]: against is for inputs, not for predictions"),
    ],
)
def test_faults_are_named_with_their_path(tmp_path: Path, changed: dict[str, str], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, **changed)
    told = [str(found) for found in caught.value.faults]
    assert told[0].startswith(fault.replace("{file}", str(tmp_path / "reference.npy")))
