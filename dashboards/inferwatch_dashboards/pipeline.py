"""Panels about the way of the events: whether the panels about the models can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from inferwatch_dashboards.panels import Panel, Query, graph
from inferwatch_dashboards.queries import BY_DETECTOR, DETECTOR, JOB, MODEL


def pipeline() -> Sequence[Panel]:
    """Return what happened to the events from their arrival to the verdicts."""
    return *_events(), *_joining(), *_judging(), _store()


def _events() -> Sequence[Panel]:
    return (
        _rates(
            "Events by outcome",
            "What became of the events received. malformed and refused are losses; duplicate and ignored are not.",
            Query(
                f"sum by (outcome) (rate(inferwatch_events_received_total{{{JOB}}}[$__rate_interval]))", "{{outcome}}"
            ),
        ),
        _rates(
            "Events stored and not judged, dead letters",
            "Stored events that no detector counts, by reason, and events that could not be stored at all.",
            Query(
                f"sum by (reason) (rate(inferwatch_events_excluded_total{{{JOB}}}[$__rate_interval]))",
                "excluded: {{reason}}",
            ),
            Query(
                f"sum by (reason) (rate(inferwatch_dead_letter_events_total{{{JOB}}}[$__rate_interval]))",
                "dead letter: {{reason}}",
            ),
        ),
    )


def _joining() -> Sequence[Panel]:
    return (
        _rates(
            "Requests joined with responses",
            "All are paired where all is well. request_only: the model fails, or its responses are not logged."
            " uneven: pairs whose halves have different numbers of rows.",
            Query(f"sum by (outcome) (rate(inferwatch_pairs_total{{{JOB}}}[$__rate_interval]))", "{{outcome}}"),
            Query(f"sum(rate(inferwatch_pairs_uneven_total{{{JOB}}}[$__rate_interval]))", "uneven"),
        ),
        graph(
            "Waiting for their other half",
            "Requests without a response yet, and the reverse. Growing without end: one of the two is not logged.",
            [Query(f"sum(inferwatch_pairs_pending{{{JOB}}})", "pending")],
            span=8,
        ),
        graph(
            "Event age",
            "How long after an event happened each stage was done with it: median and 95 %.",
            [
                Query(
                    f"histogram_quantile({quantile}, sum by (le, stage) "
                    f"(rate(inferwatch_event_age_seconds_bucket{{{JOB}}}[$__rate_interval])))",
                    f"{{{{stage}}}} {quantile:.0%}",
                )
                for quantile in (0.5, 0.95)
            ],
            unit="s",
            span=8,
        ),
    )


def _judging() -> Sequence[Panel]:
    return (
        _rates(
            "Detector runs by outcome",
            "Windows judged, and batches of rows judged one by one. error: the log of the service says why.",
            Query(
                f"sum by (outcome) (rate(inferwatch_detector_runs_total{{{MODEL}}}[$__rate_interval]))", "{{outcome}}"
            ),
        ),
        graph(
            "Detector run time, 95 %",
            "Time that one run takes, by type of detector. Runs that take longer than windows fill make a backlog.",
            [
                Query(
                    "histogram_quantile(0.95, sum by (le, detector_type) "
                    f"(rate(inferwatch_detector_run_duration_seconds_bucket{{{JOB}}}[$__rate_interval])))",
                    "{{detector_type}}",
                )
            ],
            unit="s",
            span=8,
        ),
        graph(
            "Age of the last verdict",
            "How long ago the newest row happened that each detector judged. A rising line: no traffic, or failures.",
            [
                Query(
                    f"max {BY_DETECTOR} (time() - inferwatch_detector_last_success_timestamp_seconds{{{MODEL}}})",
                    DETECTOR,
                )
            ],
            unit="s",
            span=8,
        ),
    )


def _store() -> Panel:
    return graph(
        "Size of the store",
        "Bytes on disk of the payload log. Retention bounds it: payload_log.retention_days.",
        [Query(f"sum(inferwatch_store_bytes{{{JOB}}})", "bytes")],
        unit="bytes",
        span=8,
    )


def _rates(title: str, description: str, *queries: Query) -> Panel:
    return graph(title, description, queries, unit="cps", span=8)
