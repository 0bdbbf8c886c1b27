"""Panels about the models: the fleet at a glance, then drift, outliers and explanations of the models selected."""

from __future__ import annotations

from collections.abc import Sequence

from inferwatch_dashboards.panels import Field, Panel, Query, graph, number, ranking, states
from inferwatch_dashboards.queries import BY_DETECTOR, BY_MODEL, DETECTOR, EXCESS, JOB, MODEL

ALONE = (
    "/d/${__dashboard.uid}?var-datasource=${datasource}&var-model_namespace=${__data.fields.Namespace}"
    "&var-model_name=${__data.fields.Model}&${__url_time_range}"
)


def fleet() -> Sequence[Panel]:
    """Return six numbers, and the table of models with the worst first."""
    table = ranking(
        "Models, worst first",
        "Score / threshold above 1 is a drift alarm, whatever the statistic. A namespace leads to its model alone.",
        {"model_namespace": "Namespace", "model_name": "Model"},
        _columns(),
        link=ALONE,
    )
    return *_findings(), *_freshness(), table


def _findings() -> Sequence[Panel]:
    return (
        number(
            "Models",
            "Models configured, or seen in the traffic. Fewer than you serve: a logger block is missing somewhere.",
            Query(f"count(count {BY_MODEL} (inferwatch_model_info{{{MODEL}}}))"),
        ),
        number(
            "Drifting now",
            "Models of which at least one drift detector is in alarm. Find them at the top of the table below.",
            Query(f"sum(max {BY_MODEL} (inferwatch_drift_detected{{{MODEL}}}))"),
            alarm=1,
        ),
        number(
            "Outliers flagged",
            "Rows that an outlier detector flagged in the time shown. A detector flags a known share by "
            "chance: compare with the share in the row Outliers.",
            Query(f'sum(increase(inferwatch_instances_flagged_total{{{MODEL}, kind="outlier"}}[$__range]))'),
        ),
    )


def _freshness() -> Sequence[Panel]:
    received = f"inferwatch_events_received_total{{{JOB}}}"
    taken = f'inferwatch_events_received_total{{{JOB}, outcome=~"stored|duplicate|ignored"}}'
    return (
        number(
            "Events not taken",
            "Share of the events received that were malformed or refused. Above zero: see the reasons in the row "
            "Pipeline and the bodies in dead-letter.jsonl.",
            Query(f"1 - sum(rate({taken}[$__rate_interval])) / sum(rate({received}[$__rate_interval]))"),
            unit="percentunit",
            warn=0.001,
            alarm=0.01,
        ),
        number(
            "Oldest verdict",
            "How long ago the newest row happened that the slowest detector judged. Far above the time that its window "
            "takes to fill: the model gets no traffic, or the detector fails; see its runs in the row Pipeline.",
            Query(f"max(time() - inferwatch_detector_last_success_timestamp_seconds{{{MODEL}}})"),
            unit="s",
        ),
        number(
            "Event age, 95 %",
            "How long after an event happened each stage was done with it, for 95 % of the events. High: a backlog.",
            Query(
                "histogram_quantile(0.95, sum by (le, stage) "
                f"(rate(inferwatch_event_age_seconds_bucket{{{JOB}}}[$__rate_interval])))",
                "{{stage}}",
            ),
            unit="s",
            warn=60,
        ),
    )


def _columns() -> Sequence[Field]:
    flagged = f"rate(inferwatch_instances_flagged_total{{{MODEL}}}[$__rate_interval])"
    scored = f"rate(inferwatch_instances_scored_total{{{MODEL}}}[$__rate_interval])"
    success = f"inferwatch_detector_last_success_timestamp_seconds{{{MODEL}}}"
    reference = f"inferwatch_reference_created_timestamp_seconds{{{MODEL}}}"
    return (
        Field(Query(f"max {BY_MODEL} ({EXCESS})"), "Score / threshold", decimals=2, warn=0.8, alarm=1),
        Field(Query(f"max {BY_MODEL} (inferwatch_features_drifted{{{MODEL}}})"), "Features drifted", alarm=1),
        Field(Query(f"max {BY_MODEL} (inferwatch_features_monitored{{{MODEL}}})"), "Features"),
        Field(Query(f"sum {BY_MODEL} ({flagged}) / sum {BY_MODEL} ({scored})"), "Rows flagged", "percentunit", 2),
        Field(Query(f"sum {BY_MODEL} ({scored})"), "Rows scored", "cps", 1),
        Field(Query(f"max {BY_MODEL} (time() - {success})"), "Oldest verdict", "s"),
        Field(Query(f"max {BY_MODEL} (time() - {reference})"), "Reference age", "s"),
    )


def drift() -> Sequence[Panel]:
    """Return what the drift detectors found, in which features, and how sure they are."""
    return *_drift_detected(), *_drift_judged()


def _drift_detected() -> Sequence[Panel]:
    return (
        graph(
            "Drift score and threshold",
            "The score of each detector and, dashed, the threshold above which it alarms. The threshold "
            "follows from the false-alarm rate that the configuration promises.",
            [
                Query(f"max {BY_DETECTOR} (inferwatch_drift_score{{{MODEL}}})", DETECTOR),
                Query(f"max {BY_DETECTOR} (inferwatch_drift_threshold{{{MODEL}}})", f"{DETECTOR} threshold"),
            ],
            dashed=".* threshold",
        ),
        states(
            "Drift detected",
            "When each detector was in alarm. A long alarm is a changed population: accept the traffic as the new "
            "reference, or retrain.",
            Query(f"max {BY_DETECTOR} (inferwatch_drift_detected{{{MODEL}}})", DETECTOR),
            names=("quiet", "drift"),
        ),
        graph(
            "Features drifted",
            "How many features of the last window differ from the reference. One: look at its source. Nearly all: "
            "another population, or broken preprocessing.",
            [Query(f"max {BY_DETECTOR} (inferwatch_features_drifted{{{MODEL}}})", DETECTOR)],
        ),
    )


def _drift_judged() -> Sequence[Panel]:
    return (
        ranking(
            "Features by score",
            "The features that differ most from the reference. Only the worst are exported; the API lists all of them.",
            {"model_namespace": "Namespace", "model_name": "Model", "feature": "Feature"},
            [
                Field(
                    Query(
                        "topk(20, max by (model_namespace, model_name, feature) "
                        f"(inferwatch_feature_drift_score{{{MODEL}}}))"
                    ),
                    "Score",
                    decimals=2,
                )
            ],
            span=12,
        ),
        graph(
            "p-value",
            "The p-value of each detector's last window, corrected for its many features. Small is unlikely by chance.",
            [Query(f"min {BY_DETECTOR} (inferwatch_drift_p_value{{{MODEL}}})", DETECTOR)],
            logarithmic=True,
        ),
        graph(
            "Rows in the window",
            "Rows that each detector has gathered and, dashed, how many it needs. Standing still: no traffic arrives.",
            [
                Query(f"max {BY_DETECTOR} (inferwatch_detector_window_samples{{{MODEL}}})", DETECTOR),
                Query(f"max {BY_DETECTOR} (inferwatch_detector_window_min_samples{{{MODEL}}})", f"{DETECTOR} needs"),
            ],
            dashed=".* needs",
        ),
    )


def outliers() -> Sequence[Panel]:
    """Return how many rows the outlier detectors flagged."""
    flagged = f"sum {BY_DETECTOR} (rate(inferwatch_instances_flagged_total{{{MODEL}}}[$__rate_interval]))"
    scored = f"sum {BY_DETECTOR} (rate(inferwatch_instances_scored_total{{{MODEL}}}[$__rate_interval]))"
    return (
        graph(
            "Share of rows flagged",
            "Flagged rows of all rows scored. Near the detector's false-alarm rate is chance; several times it is not.",
            [Query(f"{flagged} / {scored}", DETECTOR)],
            unit="percentunit",
        ),
        graph(
            "Rows flagged",
            "Rows flagged a second. The API lists them with their payload's id and row: /api/findings?kind=outlier.",
            [Query(flagged, DETECTOR)],
            unit="cps",
        ),
    )


def explanations() -> Sequence[Panel]:
    """Return rate, errors and duration of `:explain`, and its load on the models."""
    calls = "rate(inferwatch_explain_predictor_calls_{}{{{}}}[$__rate_interval])"
    return (
        graph(
            "Explanations by outcome",
            "Requests to :explain a second. Errors: the predictor's address or its answers; the reply says which.",
            [
                Query(
                    f"sum by (method, outcome) (rate(inferwatch_explanations_total{{{MODEL}}}[$__rate_interval]))",
                    "{{method}} {{outcome}}",
                )
            ],
            unit="reqps",
            span=8,
        ),
        graph(
            "Explanation latency, 95 %",
            "Time of a request to :explain. Set a deadline (deadline_s) where it is too long: the answer gets coarser.",
            [
                Query(
                    "histogram_quantile(0.95, sum by (le, model_name) (rate(request_explain_seconds_bucket"
                    f'{{{JOB}, model_name=~"$model_name"}}[$__rate_interval])))',
                    "{{model_name}}",
                )
            ],
            unit="s",
            span=8,
        ),
        graph(
            "Predictor calls per explanation",
            "Batched calls that one explanation makes to the model. They are marked and do not count as traffic.",
            [
                Query(
                    f"sum by (method) ({calls.format('sum', JOB)}) / sum by (method) ({calls.format('count', JOB)})",
                    "{{method}}",
                )
            ],
            span=8,
        ),
    )
