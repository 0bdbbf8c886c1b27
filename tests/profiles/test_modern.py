"""Every algorithm of captum, shap, ART and AIF360 by a real call, held against closed forms and our own explainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inferwatch.errors import InvalidOption
from inferwatch.explanation import Attribution, Explanation, Summary, Target
from inferwatch.protocols import Predict
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_explainers.adapters import aif360, art, captum, shap
from inferwatch_explainers.adapters.setting import Setting
from inferwatch_explainers.artifact import Artifact
from inferwatch_explainers.exact_shapley import ExactShapley
from tests.profiles.worlds import digits, table

pytestmark = [pytest.mark.profile, pytest.mark.filterwarnings("ignore")]  # the libraries' own

TABLE, DIGITS = table(), digits()
NUMBERS = Schema(tuple(Feature(f"x{place}", "numeric") for place in range(4)))
GENERATOR = np.random.default_rng(3)
BACKGROUND, ROWS = GENERATOR.normal(size=(30, 4)), GENERATOR.normal(size=(3, 4))
ON_TORCH = ("IntegratedGradients", "DeepLift", "GradientShap", "Occlusion", "FeatureAblation", "KernelShap", "Lime")
ON_PREDICTORS = ("Occlusion", "FeatureAblation", "KernelShap", "Lime")


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()


def image_network() -> Any:
    """A convolution whose answer for class 1 is the sum of the left half, for class 0 that of the right."""
    convolution = torch.nn.Conv2d(1, 1, 1, bias=False)
    linear = torch.nn.Linear(64, 2, bias=False)
    left = torch.zeros(8, 8)
    left[:, :4] = 1
    with torch.no_grad():
        convolution.weight.fill_(1.0)
        linear.weight.copy_(torch.stack([(1 - left).reshape(-1), left.reshape(-1)]))
    return torch.nn.Sequential(convolution, torch.nn.ReLU(), torch.nn.Flatten(), linear).eval()


def saved(module: Any, path: Path, form: str, example: Any) -> Path:
    if form == "script":
        torch.jit.trace(module, example).save(str(path.with_suffix(".pt")))
        return path.with_suffix(".pt")
    if form == "exported":
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("rows")},))
        torch.export.save(program, path.with_suffix(".pt2"))
        return path.with_suffix(".pt2")
    torch.save(module, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def on_torch(tmp_path: Path, form: str = "pickled") -> Artifact:
    return Artifact(
        saved(network(), tmp_path / "model", form, torch.zeros(2, 4)), NUMBERS, trust_pickle=form == "pickled"
    )


def explained(method: str, rows: Matrix, setting: dict[str, Any], target: Target = None, **options: Any) -> Explanation:
    tables = {**captum.ADAPTERS, **shap.ADAPTERS, **art.ADAPTERS, **aif360.ADAPTERS}
    adapter = tables[method]
    return adapter.make(Setting(options=adapter.checked(method, options), **setting)).explain(rows, target=target)


def attributed(
    method: str, rows: Matrix, setting: dict[str, Any], target: Target = None, **options: Any
) -> Attribution:
    found = explained(method, rows, setting, target, **options)
    assert isinstance(found, Attribution)
    return found


def told(method: str, rows: Matrix, setting: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    found = explained(method, rows, setting, **options)
    assert isinstance(found, Summary)
    return found.as_dicts()


def numbers(predict: Predict, estimator: Any = None) -> dict[str, Any]:
    return {
        "predict": predict,
        "background": BACKGROUND,
        "reference": BACKGROUND,
        "schema": NUMBERS,
        "estimator": estimator,
    }


@pytest.mark.parametrize("name", ON_TORCH)
def test_captum_on_a_module(tmp_path: Path, name: str) -> None:
    model = on_torch(tmp_path)
    found = attributed(f"captum.{name}", ROWS, numbers(model.outputs, model.estimator))
    assert found.values.shape == ROWS.shape
    assert np.isfinite(found.values).all()
    assert found.target == tuple(model.outputs(ROWS).argmax(axis=1).tolist())
    if name in ("IntegratedGradients", "DeepLift", "KernelShap"):
        assert np.abs(found.gap).max() < 0.01
    if name == "FeatureAblation":
        for place in range(4):
            without = ROWS.copy()
            without[:, place] = BACKGROUND.mean(axis=0)[place]
            drop = model.outputs(ROWS) - model.outputs(without)
            assert found.values[:, place] == pytest.approx(drop[range(3), found.target], abs=1e-5)


@pytest.mark.parametrize("name", ON_PREDICTORS)
def test_captum_on_a_predictor_says_what_it_says_on_the_module(tmp_path: Path, name: str) -> None:
    model = on_torch(tmp_path)
    near = attributed(f"captum.{name}", ROWS, numbers(model.outputs, model.estimator))
    far = attributed(f"captum.{name}", ROWS, numbers(model.outputs))
    assert far.values == pytest.approx(near.values, abs=1e-4)


def test_captums_kernel_shap_comes_near_the_exact_values(tmp_path: Path) -> None:
    model = on_torch(tmp_path)
    found = attributed("captum.KernelShap", ROWS, numbers(model.outputs), n_samples=2000)
    exact = ExactShapley(model.outputs, BACKGROUND.mean(axis=0, keepdims=True)).explain(ROWS)
    assert found.values == pytest.approx(exact.values, abs=0.02)


def test_integrated_gradients_of_a_linear_model_are_in_closed_form(tmp_path: Path) -> None:
    linear = torch.nn.Linear(4, 1)
    path = saved(linear, tmp_path / "linear", "pickled", None)
    model = Artifact(path, NUMBERS, trust_pickle=True)
    found = attributed("captum.IntegratedGradients", ROWS, numbers(model.outputs, model.estimator), baseline="zero")
    assert found.values == pytest.approx(ROWS * linear.weight.detach().numpy(), abs=1e-5)
    assert found.target == (None,) * 3


@pytest.mark.parametrize("form", ["script", "exported"])
def test_files_that_run_no_code_need_no_trust(tmp_path: Path, form: str) -> None:
    model = on_torch(tmp_path, form)
    assert model.outputs(ROWS) == pytest.approx(on_torch(tmp_path).outputs(ROWS), abs=1e-6)
    found = attributed("captum.IntegratedGradients", ROWS, numbers(model.outputs, model.estimator))
    assert np.abs(found.gap).max() < 0.01


def test_a_pickled_module_needs_trust(tmp_path: Path) -> None:
    path = saved(network(), tmp_path / "model", "pickled", None)
    with pytest.raises(InvalidOption, match="trust_pickle"):
        Artifact(path, NUMBERS)


def test_a_model_that_an_algorithm_cannot_look_into_is_named(tmp_path: Path) -> None:
    model = on_torch(tmp_path, "script")
    with pytest.raises(InvalidOption, match=r"captum.DeepLift cannot explain this model: .*ScriptModules"):
        attributed("captum.DeepLift", ROWS, numbers(model.outputs, model.estimator))


@pytest.mark.parametrize("method", ["IntegratedGradients", "Occlusion", "LayerGradCam"])
def test_captum_on_images_finds_the_half_that_counts(tmp_path: Path, method: str) -> None:
    path = saved(image_network(), tmp_path / "image", "pickled", None)
    model = Artifact(path, DIGITS.schema, trust_pickle=True, input_shape=(1, 8, 8))
    rows = DIGITS.rows[5:7]
    setting = {
        "predict": model.outputs,
        "background": DIGITS.rows[:20],
        "reference": DIGITS.rows,
        "schema": DIGITS.schema,
        "estimator": model.estimator,
        "input_shape": (1, 8, 8),
    }
    options: dict[str, dict[str, Any]] = {
        "LayerGradCam": {"layer": "0"},
        "Occlusion": {"window": [1, 2, 2], "baseline": "zero"},
    }
    found = attributed(f"captum.{method}", rows, setting, target=1, **options.get(method, {"baseline": "zero"}))
    assert found.as_dicts()[0]["shape"] == [1, 8, 8]
    heat = np.abs(found.values[0].reshape(8, 8))
    if method == "LayerGradCam":
        assert heat == pytest.approx(np.maximum(rows[0].reshape(8, 8), 0) * heat.max() / rows[0].max(), abs=1e-4)
    else:
        assert heat[:, 5:].max() < 1e-5 < heat[:, :4].max()
    assert found.picture(rows).draw("png")[:4] == b"\x89PNG"


@pytest.mark.parametrize("method", ["shap.Permutation", "shap.Exact", "shap.Tree"])
def test_shap_says_what_our_enumeration_says(method: str) -> None:
    background, rows = TABLE.rows[:20], TABLE.rows[100:103]
    setting = {
        "predict": TABLE.scores,
        "background": background,
        "reference": TABLE.rows,
        "schema": TABLE.schema,
        "estimator": TABLE.model,
    }
    found = attributed(method, rows, setting)
    if method == "shap.Tree":
        exact = ExactShapley(TABLE.model.decision_function, background).explain(rows)
    else:
        exact = ExactShapley(TABLE.scores, background).explain(rows)
    assert found.values == pytest.approx(exact.values, abs=0.02 if method == "shap.Permutation" else 1e-6)
    assert found.base_value == pytest.approx(exact.base_value)
    assert np.abs(found.gap).max() < 1e-6


@pytest.mark.parametrize("method", ["shap.Exact", "captum.FeatureAblation"])
def test_a_label_that_no_row_is_given_is_no_target(method: str) -> None:
    background, rows = TABLE.rows[:20], TABLE.rows[100:102]
    setting = {"predict": TABLE.labels, "background": background, "reference": TABLE.rows, "schema": TABLE.schema}
    assert attributed(method, rows, setting, target="class 1").target == ("class 1", "class 1")
    with pytest.raises(InvalidOption, match="target is 'class 7', a label that the predictor gave no row; it gave 'cl"):
        explained(method, rows, setting, target="class 7")


@pytest.mark.parametrize("answers", ["scores", "labels"])
def test_hop_skip_jump_crosses_the_border(answers: str) -> None:
    predict = getattr(TABLE, answers)
    setting = {"predict": predict, "background": TABLE.rows[:50], "reference": TABLE.rows, "schema": TABLE.schema}
    found = told("art.HopSkipJump", TABLE.rows[:2], setting, max_iter=5, max_eval=200)
    for entry, row in zip(found, TABLE.rows, strict=False):
        assert entry["success"]
        there = np.array(entry["adversarial_example"])
        assert TABLE.model.predict(there[None]) != TABLE.model.predict(row[None])
        assert entry["l2_error"] == pytest.approx(float(np.linalg.norm(there - row)))


def test_a_square_attack_stays_within_its_bound() -> None:
    setting = {
        "predict": DIGITS.scores,
        "background": DIGITS.rows[:50],
        "reference": DIGITS.rows,
        "schema": DIGITS.schema,
        "input_shape": (1, 8, 8),
    }
    found = told("art.SquareAttack", DIGITS.rows[:3], setting, eps=0.5, max_iter=200)
    assert any(entry["success"] for entry in found)
    for entry, row in zip(found, DIGITS.rows, strict=False):
        there = np.array(entry["adversarial_example"]).reshape(-1)
        assert np.abs(there - row).max() <= 0.5 * 16 + 1e-3


def test_aif360_counts_as_its_formulas_do() -> None:
    setting = {"predict": TABLE.scores, "background": TABLE.rows[:50], "reference": TABLE.rows, "schema": TABLE.schema}
    rows = TABLE.rows[:200]
    [entry] = told("aif360", rows, setting, protected="kind", privileged=["c"])
    good, privileged = TABLE.model.predict(rows) == 1, rows[:, 5] == 2
    rates = good[~privileged].mean(), good[privileged].mean()
    metrics = entry["metrics"]
    assert metrics["base_rate"] == pytest.approx(good.mean())
    assert metrics["disparate_impact"] == pytest.approx(rates[0] / rates[1])
    assert metrics["statistical_parity_difference"] == pytest.approx(rates[0] - rates[1])
    assert (metrics["num_instances"], metrics["num_positives"]) == (200, good.sum())
