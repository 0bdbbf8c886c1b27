"""The dashboard "inferwatch / Fleet and model": which model needs me, what is wrong with it, can I trust the answer."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as sdk
from grafana_foundation_sdk.models.dashboard import Dashboard

from inferwatch_dashboards.models import drift, explanations, fleet, outliers
from inferwatch_dashboards.panels import DATASOURCE
from inferwatch_dashboards.pipeline import pipeline
from inferwatch_dashboards.queries import JOB

UID = "inferwatch-fleet-and-model"


def fleet_and_model() -> Dashboard:
    """Return the dashboard. It shows every model by default; its variables narrow it to a namespace or a model."""
    board = (
        builders.Dashboard("inferwatch / Fleet and model")
        .uid(UID)
        .description("Drift, outliers, explanations and the flow of events of the models that inferwatch watches.")
        .tags(["inferwatch"])
        .readonly()
        .timezone("utc")
        .time("now-6h", "now")
        .refresh("30s")
        .link(
            builders.DashboardLink("inferwatch")
            .type(sdk.DashboardLinkType.DASHBOARDS)
            .tags(["inferwatch"])
            .icon("dashboard")
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for name, label, query in _VARIABLES:
        board = board.with_variable(_variable(name, label, query))
    for title, panels in (
        ("Fleet", fleet()),
        ("Drift", drift()),
        ("Outliers", outliers()),
        ("Explanations", explanations()),
        ("Pipeline", pipeline()),
    ):
        board = board.with_row(builders.Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return _numbered(board.build())


def _numbered(board: Dashboard) -> Dashboard:
    for number, panel in enumerate(board.panels or (), start=1):
        panel.id_val = number
    return board


_VARIABLES = (
    ("job", "Job", "label_values(inferwatch_build_info, job)"),
    ("model_namespace", "Namespace", f"label_values(inferwatch_model_info{{{JOB}}}, model_namespace)"),
    (
        "model_name",
        "Model",
        f'label_values(inferwatch_model_info{{{JOB}, model_namespace=~"$model_namespace"}}, model_name)',
    ),
)


def _variable(name: str, label: str, query: str) -> builders.QueryVariable:
    """Return a variable that selects everything until the user narrows it; `.*` also matches a label that is empty."""
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(sdk.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(sdk.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+" if name == "job" else ".*")
        .current(sdk.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
