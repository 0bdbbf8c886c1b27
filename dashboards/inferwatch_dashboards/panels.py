"""Panels as the dashboards of inferwatch use them: every one has a title, a description, a unit and its queries.

A description says what the panel means and what to do about it. Sizes are in Grafana's grid, 24 columns wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")

Panel = stat.Panel | timeseries.Panel | table.Panel | statetimeline.Panel


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and what its series are called: a text in which `{{label}}` stands for a label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a table: the query that fills it, its heading and unit, and from where its cells are coloured."""

    query: Query
    heading: str
    unit: str = "short"
    decimals: int = 0
    warn: float | None = None
    alarm: float | None = None


def number(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str = "short",
    warn: float | None = None,
    alarm: float | None = None,
) -> stat.Panel:
    """Return a panel with the newest value of each series, coloured from `warn` (orange) and `alarm` (red) on."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .height(4)
        .span(4)
        .thresholds(_thresholds(warn, alarm))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .with_target(_instant(query, "A"))
    )


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str = "short",
    span: int = 12,
    logarithmic: bool = False,
    dashed: str = "",
) -> timeseries.Panel:
    """Return a panel of series over time. Series whose name matches the pattern `dashed` are drawn as dashed lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .height(8)
        .span(span)
        .fill_opacity(0 if dashed or logarithmic else 10)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    for ref, query in zip(ascii_uppercase, queries, strict=False):
        panel = panel.with_target(_range(query, ref))
    if logarithmic:
        panel = panel.scale_distribution(
            common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        )
    if dashed:
        style = {"fill": "dash", "dash": [8, 6]}
        panel = panel.override_by_regexp(dashed, [dashboard.DynamicConfigValue("custom.lineStyle", style)])
    return panel


def states(title: str, description: str, query: Query, *, names: tuple[str, str]) -> statetimeline.Panel:
    """Return a panel that shows for each series when it was 0 (green, `names[0]`) and when 1 (red, `names[1]`)."""
    options = {
        str(value): dashboard.ValueMappingResult(text=name, color=color, index=value)
        for value, (name, color) in enumerate(zip(names, ("green", "red"), strict=True))
    }
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("short")
        .height(8)
        .span(12)
        .mappings([dashboard.ValueMap(options=options)])
        .thresholds(_thresholds(None, 1))
        .with_target(_range(query, "A"))
    )


def ranking(
    title: str, description: str, labels: dict[str, str], fields: Sequence[Field], *, link: str = "", span: int = 24
) -> table.Panel:
    """Return a table with one row for each value of `labels` (label name to heading), the highest first field first.

    `link` is an address that every row's first cell leads to.
    """
    panel = (
        table.Panel().title(title).description(description).datasource(DATASOURCE).unit("short").height(8).span(span)
    )
    for ref, field in zip(ascii_uppercase, fields, strict=False):
        panel = panel.with_target(_instant(field.query, ref).format(PromQueryFormat.TABLE))
        panel = panel.override_by_name(field.heading, _appearance(field))
    headings = labels | {
        _value_of(ref, fields): field.heading for ref, field in zip(ascii_uppercase, fields, strict=False)
    }
    if link:
        first = next(iter(labels.values()))
        properties = [dashboard.DynamicConfigValue("links", [{"title": "Show this model alone", "url": link}])]
        panel = panel.override_by_name(first, properties)
    return (
        panel.with_transformation(dashboard.DataTransformerConfig("merge", options={}))
        .with_transformation(dashboard.DataTransformerConfig("organize", options=_organization(headings)))
        .with_transformation(
            dashboard.DataTransformerConfig(
                "sortBy", options={"fields": {}, "sort": [{"field": fields[0].heading, "desc": True}]}
            )
        )
    )


def _value_of(ref: str, fields: Sequence[Field]) -> str:
    """Return the name that Grafana's merge gives to the value of a query; a single one carries no letter."""
    return f"Value #{ref}" if len(fields) > 1 else "Value"


def _organization(headings: dict[str, str]) -> dict[str, object]:
    return {
        "excludeByName": {"Time": True},
        "indexByName": {name: position for position, name in enumerate(headings)},
        "renameByName": headings,
    }


def _appearance(field: Field) -> list[dashboard.DynamicConfigValue]:
    properties = [
        dashboard.DynamicConfigValue("unit", field.unit),
        dashboard.DynamicConfigValue("decimals", field.decimals),
    ]
    if field.warn is not None or field.alarm is not None:
        properties += [
            dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
            dashboard.DynamicConfigValue("thresholds", _thresholds(field.warn, field.alarm).build()),
        ]
    return properties


def _thresholds(warn: float | None, alarm: float | None) -> dashboard_builders.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color="text" if warn is None and alarm is None else "green")]
    steps += [
        dashboard.Threshold(value=value, color=color)
        for value, color in ((warn, "orange"), (alarm, "red"))
        if value is not None
    ]
    return dashboard_builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _range(query: Query, ref: str) -> prometheus.Dataquery:
    return _dataquery(query, ref).range()


def _instant(query: Query, ref: str) -> prometheus.Dataquery:
    return _dataquery(query, ref).instant()


def _dataquery(query: Query, ref: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().datasource(DATASOURCE).expr(query.expr).ref_id(ref)
    return target.legend_format(query.legend) if query.legend else target
