"""What Prometheus sees of the core: counters that events pass through, and snapshots taken at each scrape."""

from inferwatch.metrics.flow import FlowMetrics
from inferwatch.metrics.snapshot import ReferenceInfo, SnapshotCollector

__all__ = ["FlowMetrics", "ReferenceInfo", "SnapshotCollector"]
