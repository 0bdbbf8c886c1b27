"""These tests run in the environments of `make test-profiles`; elsewhere they are not even read."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = ["test_*.py"] if find_spec("torch") is None else []
