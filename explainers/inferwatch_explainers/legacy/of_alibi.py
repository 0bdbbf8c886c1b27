"""Calls of alibi 0.9.4, the last release under the Apache licence.

A call holds `rows` (n, d) to explain, `reference` (m, d), `names`, `categories` (texts by the feature's place), `shape`
of one input, and `options`; one about texts holds `texts` (n). `ask(rows, how)` gives the model's outputs for rows or
texts, `classes` (r,) as integers or `scores` (r, k).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Call = dict[str, Any]
Ask = Callable[[Any, str], Any]
Result = dict[str, Any]


def anchor_tabular(call: Call, ask: Ask) -> Result:
    """Return a rule for each row."""
    from alibi.explainers import AnchorTabular

    categories = {int(place): texts for place, texts in call["categories"].items()}
    explainer = AnchorTabular(lambda rows: ask(_numbers(rows), "classes"), call["names"], categories, seed=0)
    explainer.fit(call["reference"], disc_perc=tuple(call["options"].pop("disc_perc")))
    return {"anchors": [_anchor(explainer.explain(row, **call["options"])) for row in call["rows"]]}


def anchor_text(call: Call, ask: Ask) -> Result:
    """Other words become UNK; what else alibi would put in their place needs a language model from the network."""
    import spacy
    from alibi.explainers import AnchorText

    options = dict(call["options"])
    sampling = {"sampling_strategy": "unknown", "sample_proba": options.pop("sample_proba")}
    language = spacy.blank(options.pop("language"))
    explainer = AnchorText(
        lambda texts: ask([str(text) for text in texts], "classes"), nlp=language, seed=0, **sampling
    )
    return {"anchors": [_words(explainer.explain(text, **options)) for text in call["texts"]]}


def anchor_image(call: Call, ask: Ask) -> Result:
    """Channels come first here and last there."""
    from alibi.explainers import AnchorImage

    channels, height, width = call["shape"]

    def predict(images: Any) -> Any:  # noqa: ANN401 - alibi has no types
        images = np.asarray(images).reshape(-1, height, width, channels)
        return ask(_numbers(images.transpose(0, 3, 1, 2).reshape(len(images), -1)), "classes")

    options = dict(call["options"])
    segmentation = {"n_segments": options.pop("n_segments"), "compactness": options.pop("compactness"), "sigma": 0.5}
    explainer = AnchorImage(predict, (height, width, channels), segmentation_kwargs=segmentation, seed=0)
    found = []
    for row in call["rows"]:
        image = row.reshape(channels, height, width).transpose(1, 2, 0)
        explanation = explainer.explain(image, **options)
        segments = np.asarray(explanation.segments)
        kept = np.isin(segments, explanation.raw["feature"])
        found.append(
            {
                "anchor": np.asarray(explanation.anchor, dtype=float).tolist(),
                "mask": kept.astype(int).tolist(),
                "segments": segments.tolist(),
                **_figures(explanation),
            }
        )
    return {"entries": found}


def ale(call: Call, ask: Ask) -> Result:
    """Return each feature's accumulated local effects, over the reference."""
    from alibi.explainers import ALE

    explainer = ALE(lambda rows: ask(_numbers(rows), "scores"), feature_names=call["names"])
    explanation = explainer.explain(call["reference"], **call["options"])
    curves = [
        {"feature": name, "at": np.asarray(at).tolist(), "effect": np.asarray(effect).tolist()}
        for name, at, effect in zip(
            explanation.feature_names, explanation.feature_values, explanation.ale_values, strict=True
        )
    ]
    return {"entries": [{"curves": curves, "constant": np.asarray(explanation.constant_value).tolist()}]}


def proto_select(call: Call, ask: Ask) -> Result:
    """Return the rows of the reference that stand best for its classes, of standardised features."""
    from alibi.prototypes import ProtoSelect
    from alibi.utils.kernel import EuclideanDistance

    reference = call["reference"]
    labels = np.asarray(ask(reference, "classes"))
    options = dict(call["options"])
    count = options.pop("num_prototypes")
    centred = (reference - reference.mean(axis=0)) / np.where(reference.std(axis=0) > 0, reference.std(axis=0), 1)
    eps = options.pop("eps") or float(np.quantile(_distances(centred[:500]), 0.05))
    selector = ProtoSelect(kernel_distance=EuclideanDistance(), eps=eps, **options).fit(centred, y=labels)
    summary = selector.summarise(num_prototypes=count)
    places = np.asarray(summary.data["prototype_indices"])
    return {"prototypes": places, "labels": labels[places], "eps": eps}


def permutation_importance(call: Call, ask: Ask) -> Result:
    """Return how far the decisions about the reference change as each feature is shuffled."""
    from alibi.explainers import PermutationImportance

    rows = call["reference"]
    labels = np.asarray(ask(rows, "classes"))
    explainer = PermutationImportance(
        lambda given: np.asarray(ask(_numbers(given), "classes")),
        score_fns=["accuracy"],
        feature_names=call["names"],
        verbose=False,
    )
    np.random.seed(0)  # noqa: NPY002 - what the library draws from
    explanation = explainer.explain(X=rows, y=labels, **call["options"])
    return {
        "entries": [
            {"feature": name, "importance": float(each["mean"]), "std": float(each["std"])}
            for name, each in zip(explanation.feature_names, explanation.feature_importance[0], strict=True)
        ]
    }


def trust_score(call: Call, ask: Ask) -> Result:
    """Return for each row how much nearer its own class is than any other."""
    from alibi.confidence import TrustScore

    labels, decided = (np.asarray(ask(rows, "classes")) for rows in (call["reference"], call["rows"]))
    codes = {label: code for code, label in enumerate(sorted({*labels.tolist(), *decided.tolist()}))}
    coded, asked = (np.array([codes[label] for label in given.tolist()]) for given in (labels, decided))
    options = dict(call["options"])
    k = options.pop("k")
    trust = TrustScore(**options)
    trust.fit(call["reference"], coded, classes=len(codes))
    scores, nearest = trust.score(call["rows"], asked, k=k)
    names = {code: label for label, code in codes.items()}
    return {
        "entries": [
            {"trust_score": float(score), "prediction": int(label), "closest_not_predicted": names[int(other)]}
            for score, label, other in zip(scores, decided, nearest, strict=True)
        ]
    }


def _anchor(explanation: Any) -> Result:  # noqa: ANN401
    return {"anchor": [str(condition) for condition in explanation.anchor], **_figures(explanation)}


def _words(explanation: Any) -> Result:  # noqa: ANN401
    """Return the words in the order of the text, and where they stand."""
    found = sorted(zip(explanation.raw["positions"], explanation.raw["names"], strict=True))
    positions = [[int(start), int(start) + len(word)] for start, word in found]
    return {"anchor": [str(word) for _, word in found], "positions": positions, **_figures(explanation)}


def _figures(explanation: Any) -> Result:  # noqa: ANN401
    return {name: float(np.asarray(getattr(explanation, name)).reshape(-1)[0]) for name in ("precision", "coverage")}


def _numbers(rows: Any) -> Any:  # noqa: ANN401
    return np.atleast_2d(np.asarray(rows, dtype=np.float64))


def _distances(rows: Any) -> Any:  # noqa: ANN401
    return np.sqrt(((rows[:, None, :] - rows[None, :, :]) ** 2).sum(axis=2))


ALGORITHMS = {
    "AnchorTabular": anchor_tabular,
    "AnchorText": anchor_text,
    "AnchorImage": anchor_image,
    "ALE": ale,
    "ProtoSelect": proto_select,
    "PermutationImportance": permutation_importance,
    "TrustScore": trust_score,
}
