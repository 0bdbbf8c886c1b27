"""The shared vocabulary of inferwatch; and its payload log as DataFrames."""

from inferwatch._version import __version__
from inferwatch.frames import explanations, findings, payloads

__all__ = ["__version__", "explanations", "findings", "payloads"]
