"""Explanations in the shapes of other explainers for KServe, so that clients written for those keep working.

Those answer for one instance. The first instance's explanation stands where such a client looks for it; of several
instances all are listed beside it, under `explanations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from inferwatch._version import __version__
from inferwatch.errors import InvalidOption
from inferwatch.explanation import Anchors, Attribution, Explanation, Summary, WordAttributions
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.words import words

Shape = Callable[[Explanation, Matrix, Schema, str], dict[str, Any]]


def reply(shape: str, explanation: Explanation, rows: Matrix, schema: Schema, model_name: str) -> dict[str, Any]:
    """Return the reply in a shape of `SHAPES`.

    Raises `InvalidOption` for a shape that has no place for this kind of explanation.
    """
    return SHAPES[shape](explanation, rows, schema, model_name)


def check_shape(shape: str, method: str) -> None:
    """Raise `InvalidOption` where the explanations of a method have no such shape."""
    if shape == "trustyai" and method in ("anchors_tabular", "anchors_text", "counterfactual"):
        raise InvalidOption(f"reply trustyai is for attributions, and {method} gives none")
    for own, library in (("art", "art."), ("aif", "aif360")):
        if shape == own and not method.startswith(library):
            raise InvalidOption(f"reply {own} is for {library.rstrip('.')}, not for {method}")


def _native(explanation: Explanation, rows: Matrix, schema: Schema, model_name: str) -> dict[str, Any]:  # noqa: ARG001
    return {"explanations": explanation.as_dicts(), "model_name": model_name}


def _alibi(explanation: Explanation, rows: Matrix, schema: Schema, model_name: str) -> dict[str, Any]:  # noqa: ARG001
    """Return `meta` and `data`, as alibi's `Explanation.to_json` has them."""
    instances = schema.decode(rows)
    if isinstance(explanation, Attribution):
        return _meta("KernelShap", "global") | {"data": _shap(explanation, instances)}
    entries = explanation.as_dicts()
    if isinstance(explanation, WordAttributions):
        data = [_shap(each, [text]) for each, text in zip(explanation.attributions, instances, strict=True)]
        name = "KernelShap"
    elif isinstance(explanation, Summary):
        name, data = explanation.method.removeprefix("alibi."), entries
    elif isinstance(explanation, Anchors) and explanation.positions:
        name, data = "AnchorText", [_words(entry, text) for entry, [text] in zip(entries, instances, strict=True)]
    elif isinstance(explanation, Anchors):
        name, data = "AnchorTabular", [_anchor(entry, row) for entry, row in zip(entries, instances, strict=True)]
    else:
        name, data = "Counterfactual", [_nearest(entry, row) for entry, row in zip(entries, instances, strict=True)]
    all_ = [_meta(name, "local") | {"data": each} for each in data]
    return all_[0] if len(all_) == 1 else all_[0] | {"explanations": all_}


def _meta(name: str, reach: str) -> dict[str, Any]:
    meta = {"name": name, "type": ["blackbox"], "explanations": [reach], "params": {}, "version": __version__}
    return {"meta": meta}


def _shap(explanation: Attribution, instances: list[list[Any]]) -> dict[str, Any]:
    return {
        "shap_values": [explanation.values.tolist()],
        "expected_value": explanation.base_value[:1].tolist(),
        "feature_names": list(explanation.features),
        "categorical_names": {},
        "link": "identity",
        "raw": {
            "raw_prediction": explanation.prediction.tolist(),
            "prediction": list(explanation.target),
            "instances": instances,
        },
    }


def _anchor(entry: Mapping[str, Any], instance: list[Any]) -> dict[str, Any]:
    features = [place for place, name in enumerate(entry["features"]) for text in entry["anchor"] if _about(name, text)]
    return _rule(entry, instance, {"feature": features})


def _words(entry: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return a rule about words: `feature` counts the words of the text, `positions` its characters."""
    starts = [start for start, _ in words(text)]
    positions = [start for start, _ in entry["positions"]]
    return _rule(entry, text, {"feature": [starts.index(start) for start in positions], "positions": positions})


def _rule(entry: Mapping[str, Any], instance: list[Any] | str, where: Mapping[str, Any]) -> dict[str, Any]:
    raw = {
        **where,
        "names": entry["anchor"],
        "mean": [entry["precision"]],
        "precision": [entry["precision"]],
        "coverage": [entry["coverage"]],
        "num_preds": entry["predictor_rows"],
        "prediction": [entry["target"]],
        "instance": instance,
        "instances": [instance],
        "examples": [],
    }
    return {
        "anchor": entry["anchor"],
        "precision": entry["precision"],
        "coverage": entry["coverage"],
        "raw": raw,
    }


def _about(name: str, text: str) -> bool:
    """Return whether a condition as text is about the feature of this name."""
    return text.startswith((f"{name} ", f"{name}=")) or f"< {name} <=" in text


def _nearest(entry: Mapping[str, Any], instance: list[Any]) -> dict[str, Any]:
    found = entry["counterfactual"]
    nearest = {"X": found[:1], "class": entry["target"], "distance": entry["distance"]} if found else None
    return {
        "cf": nearest,
        "all": found,
        "orig_proba": entry["prediction"],
        "instance": instance,
        "success": bool(found),
    }


def _trustyai(explanation: Explanation, rows: Matrix, schema: Schema, model_name: str) -> dict[str, Any]:  # noqa: ARG001
    """Return the saliencies of TrustyAI's explainer; `confidence` is half of the 95 % interval around the score."""
    if not isinstance(explanation, Attribution | WordAttributions):
        raise InvalidOption(f"reply trustyai is for attributions, and {explanation.method} gives none")
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    all_ = [
        {"timestamp": stamp, "type": "explanation", "saliencies": {"SHAP": {"outputs-0": _scores(entry)}}}
        for entry in explanation.as_dicts()
    ]
    return all_[0] if len(all_) == 1 else all_[0] | {"explanations": all_}


def _scores(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    figures = zip(entry["features"], entry["values"], entry["std_error"], strict=True)
    return [
        {"name": name, "score": value, "confidence": None if error is None else 1.96 * error}
        for name, value, error in figures
    ]


def _art(explanation: Explanation, rows: Matrix, schema: Schema, model_name: str) -> dict[str, Any]:  # noqa: ARG001
    """Return the reply of KServe's ART explainer, about the first instance; its `L2 error` is written so."""
    names = {"adversarial_example": "adversarial_example", "l2_error": "L2 error"}
    names |= {name: name for name in ("adversarial_prediction", "prediction")}
    all_ = [{"explanations": {new: entry[name] for name, new in names.items()}} for entry in explanation.as_dicts()]
    return all_[0] if len(all_) == 1 else all_[0] | {"all": [each["explanations"] for each in all_]}


def _aif(explanation: Explanation, rows: Matrix, schema: Schema, model_name: str) -> dict[str, Any]:  # noqa: ARG001
    """Return the reply of KServe's AIF explainer: the predictions, and the metrics of the batch."""
    [entry] = explanation.as_dicts()
    return {"predictions": entry["predictions"], "metrics": entry["metrics"]}


SHAPES: Mapping[str, Shape] = {"native": _native, "alibi": _alibi, "trustyai": _trustyai, "art": _art, "aif": _aif}
"""One line a shape that `parameters.reply` may ask for."""
