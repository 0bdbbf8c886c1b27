"""The committed gRPC messages are those that KServe's protobuf classes write today."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.components import ROOT, demo_python


@pytest.mark.integration
def test_the_messages_are_those_that_kserve_writes(tmp_path: Path) -> None:
    written = tmp_path / "corpus.json"
    subprocess.run([demo_python(), ROOT / "scripts" / "grpc_corpus.py", written], check=True, timeout=100)
    committed = ROOT / "tests" / "core" / "wire" / "grpc_corpus.json"
    assert written.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")
