"""What Prometheus sees of the core: counters that events pass through, and snapshots taken at each scrape."""

from inferwatch.metrics.flow import FlowMetrics
from inferwatch.metrics.lag import LagCollector
from inferwatch.metrics.snapshot import AccountCollector, ReferenceInfo, SnapshotCollector

__all__ = ["AccountCollector", "FlowMetrics", "LagCollector", "ReferenceInfo", "SnapshotCollector"]
