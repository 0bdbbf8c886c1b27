"""What the tests with real components need."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def model_server_python() -> Path:
    """The interpreter of the environment that holds KServe's model server, with inferwatch installed beside it.

    Without that environment the test is skipped; in continuous integration (`CI=true`) it fails.
    """
    python = ROOT / ".venvs" / "demo" / "bin" / "python"
    probe = [str(python), "-c", "import kserve, sklearn, inferwatch_logger"]
    if python.exists():
        done = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=False)
        lack = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    else:
        lack = ".venvs/demo is not there"
    if lack:
        missing = f"no environment with KServe's model server ({lack}); get it with: make setup-demo"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return python
