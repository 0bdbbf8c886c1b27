"""Grafana dashboards over the metrics of inferwatch, generated from Python."""

from inferwatch_dashboards.generate import build

__all__ = ["build"]
