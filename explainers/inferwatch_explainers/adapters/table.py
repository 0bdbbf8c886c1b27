"""Every adapted algorithm of another library, by `library.Class`."""

from __future__ import annotations

from collections.abc import Mapping

from inferwatch_explainers.adapters import aif360, art, captum, legacy, shap
from inferwatch_explainers.adapters.setting import Adapter

ADAPTERS: Mapping[str, Adapter] = {
    **captum.ADAPTERS,
    **shap.ADAPTERS,
    **art.ADAPTERS,
    **aif360.ADAPTERS,
    **legacy.ADAPTERS,
}
