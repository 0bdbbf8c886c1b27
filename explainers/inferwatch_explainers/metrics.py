"""What the explanation service counts, under the names that dashboards and KServe's own panels use."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_CALLS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610)


class ExplainMetrics:
    """The metrics of one service, registered where the caller says."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.reading_seconds = Histogram(
            "request_preprocess_seconds", "Time to read an explain request.", ["model_name"], registry=registry
        )
        self.writing_seconds = Histogram(
            "request_postprocess_seconds", "Time to write an explanation or draw it.", ["model_name"], registry=registry
        )
        self.seconds = Histogram(
            "request_explain_seconds", "Time to answer an explain request.", ["model_name"], registry=registry
        )
        self.explanations = Counter(
            "inferwatch_explanations",
            "Explain requests by how they ended.",
            ["model_namespace", "model_name", "method", "outcome"],
            registry=registry,
        )
        self.predictor_calls = Histogram(
            "inferwatch_explain_predictor_calls",
            "Calls to the predictor for one explain request.",
            ["method"],
            buckets=_CALLS,
            registry=registry,
        )
        self.cache_lookups = Counter(
            "inferwatch_explain_cache_lookups",
            "Explain requests by whether their answer was kept: `hit` or `miss`.",
            ["model_namespace", "model_name", "result"],
            registry=registry,
        )
        self.cache_bytes = Gauge(
            "inferwatch_explain_cache_bytes", "Bytes of explanations that are kept.", registry=registry
        )
        self.inflight = Gauge("inferwatch_explain_inflight", "Explain requests being worked on.", registry=registry)
        self.queue_depth = Gauge("inferwatch_explain_queue_depth", "Explain requests that wait.", registry=registry)
