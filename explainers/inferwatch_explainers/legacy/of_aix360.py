"""Calls of AIX360 0.3.0. A call and `ask` are as in `of_alibi`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Call = dict[str, Any]
Ask = Callable[[Any, str], Any]
Result = dict[str, Any]


def protodash(call: Call, ask: Ask) -> Result:  # noqa: ARG001 - of inputs alone
    """Return the rows of the reference that stand best for the rows to explain, with weights."""
    from aix360.algorithms.protodash import ProtodashExplainer

    weights, places, _ = ProtodashExplainer().explain(call["rows"], call["reference"], **call["options"])
    return {"prototypes": np.asarray(places), "weights": np.asarray(weights) / np.sum(weights)}


def brcg(call: Call, ask: Ask) -> Result:
    """Fit a Boolean rule, an OR of ANDs, to what the model decides about the reference."""
    from aix360.algorithms.rbm import BooleanRuleCG, BRCGExplainer

    labels, target = _decided(call, ask)
    table = _binarized(call)
    options = dict(call["options"], solver="HIGHS")
    explainer = BRCGExplainer(BooleanRuleCG(**options))
    explainer.fit(table, labels)
    kept = np.asarray(explainer.predict(table)) == labels
    rules = explainer.explain()
    return {"entries": [{"rules": list(rules["rules"]), "target": target, "fidelity": float(kept.mean())}]}


def log_rr(call: Call, ask: Ask) -> Result:
    """Fit logistic regression over rules to what the model decides about the reference."""
    from aix360.algorithms.rbm import GLRMExplainer, LogisticRuleRegression

    labels, target = _decided(call, ask)
    table = _binarized(call)
    explainer = GLRMExplainer(LogisticRuleRegression(**call["options"]))
    explainer.fit(table, labels)
    kept = np.asarray(explainer.predict(table)) == labels
    told = explainer.explain()
    rules = [
        {"rule": str(rule), "coefficient": float(weight)}
        for rule, weight in zip(told.iloc[:, 0].tolist(), told["coefficient"].tolist(), strict=True)
    ]
    return {"entries": [{"rules": rules, "target": target, "fidelity": float(kept.mean())}]}


def ted(call: Call, ask: Ask) -> Result:  # noqa: ARG001 - taught by examples, not by the model
    """Teach decisions and their reasons together, by examples `taught` (m, d + 2): reason and decision last."""
    from aix360.algorithms.ted.TED_Cartesian import TED_CartesianExplainer
    from sklearn.ensemble import RandomForestClassifier

    taught = call["taught"]
    inputs, decisions, reasons = taught[:, :-2], taught[:, -1].astype(int), taught[:, -2].astype(int)
    explainer = TED_CartesianExplainer(RandomForestClassifier(n_estimators=100, random_state=0))
    explainer.fit(inputs, decisions, reasons)
    entries = []
    for row in call["rows"]:
        decision, reason = explainer.predict_explain(row.reshape(1, -1))
        entries.append({"prediction": int(np.ravel(decision)[0]), "explanation": int(np.ravel(reason)[0])})
    return {"entries": entries}


def _decided(call: Call, ask: Ask) -> tuple[Any, int]:
    """Return 1 where the model decides for the target, by default the first explained row's class, and the target."""
    decided = np.asarray(ask(call["reference"], "classes"))
    target = call["target"] if call["target"] is not None else int(np.asarray(ask(call["rows"][:1], "classes"))[0])
    labels = (decided == target).astype(int)
    if labels.min() == labels.max():
        raise ValueError("the model decides alike about every row of the reference, so there is no rule to find")
    return labels, target


def _binarized(call: Call) -> Any:  # noqa: ANN401
    import pandas as pd
    from aix360.algorithms.rbm import FeatureBinarizer

    table = pd.DataFrame(call["reference"], columns=call["names"])
    for place, texts in call["categories"].items():
        codes = table.pop(call["names"][int(place)])
        for code, text in enumerate(texts):  # one column a category: its own encoder needs an older scikit-learn
            table[f"{codes.name} = {text}"] = (codes == code).astype(int)
    return FeatureBinarizer(negations=True).fit_transform(table)


ALGORITHMS = {"Protodash": protodash, "BRCG": brcg, "LogRR": log_rr, "TED": ted}
