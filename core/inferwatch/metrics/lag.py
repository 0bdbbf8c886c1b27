"""How far a reader of a topic is behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True, eq=False)
class LagCollector(Collector):
    """Collects the records of each partition that were not read when that was last looked at."""

    topic: str
    group: str
    lags: Callable[[], Mapping[int, int]]

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family."""
        lag = GaugeMetricFamily(
            "inferwatch_consumer_lag_records",
            "Records of a partition that were not read yet.",
            labels=("topic", "partition", "group"),
        )
        for partition, records in sorted(self.lags().items()):
            lag.add_metric((self.topic, str(partition), self.group), records)
        yield lag
