"""Settings read from a text, and their faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferwatch.errors import ConfigError
from inferwatch.settings import ModelSettings, Settings, load_settings

MODEL = "models: [{name: income, reference: ref.csv, %s}]"


def read(file: Path, text: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def faults(file: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(file, text)
    return [str(fault) for fault in refused.value.faults]


def model(file: Path, text: str) -> ModelSettings:
    return read(file, MODEL % text).models[0]
