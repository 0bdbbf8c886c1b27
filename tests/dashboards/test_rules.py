"""The rules of Grafana's dashboard-linter, with one exemption.

No variable and no selector for `instance`: the replicas of a service add up to one model, so every panel aggregates
over them on purpose.
"""

from __future__ import annotations

import re

import pytest

from tests.dashboards.conftest import Json

SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)\{([^}]*)\}")
METRIC = re.compile(r"\b(?:inferwatch|request)_\w+")
UNITS = {"short", "s", "bytes", "percentunit", "cps", "reqps"}


def test_the_data_source_is_a_variable(board: Json) -> None:
    first = board["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert first["label"] == "Data source"


def test_job_selects_several_and_everything(queries: list[Json]) -> None:
    job = next(variable for variable in queries if variable["name"] == "job")
    assert (job["label"], job["multi"], job["includeAll"], job["allValue"]) == ("Job", True, True, ".+")


def test_models_are_chosen_within_the_job_and_the_namespace(queries: list[Json]) -> None:
    named = {variable["name"]: variable["query"] for variable in queries}
    assert list(named) == ["job", "model_namespace", "model_name"]
    assert '"$job"' in named["model_namespace"]
    assert '"$job"' in named["model_name"]
    assert '"$model_namespace"' in named["model_name"]


def test_variables_are_asked_again_when_the_time_changes(queries: list[Json]) -> None:
    assert [variable["refresh"] for variable in queries] == [2, 2, 2]
    assert all(variable["datasource"]["uid"] == "${datasource}" for variable in queries)
    assert all(re.fullmatch(r"label_values\(\w+(\{.*\})?, \w+\)", variable["query"]) for variable in queries)


def test_every_panel_says_what_it_means(panels: list[Json]) -> None:
    assert all(panel["title"] and len(panel["description"]) > 40 for panel in panels)
    assert len({panel["title"] for panel in panels}) == len(panels)


def test_every_panel_has_a_query_and_the_chosen_data_source(panels: list[Json]) -> None:
    for panel in panels:
        assert panel["targets"], panel["title"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} == {"${datasource}"}, panel["title"]


def test_every_panel_has_a_unit_that_grafana_knows(panels: list[Json]) -> None:
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in panels} <= UNITS


def test_queries_of_a_panel_have_names_of_their_own(panels: list[Json]) -> None:
    for panel in panels:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references), panel["title"]


def test_every_metric_is_selected_by_job(expressions: list[str]) -> None:
    for expression in expressions:
        selected = [name for name, labels in SELECTOR.findall(expression) if 'job=~"$job"' in labels]
        assert selected == METRIC.findall(expression), expression


def test_metrics_of_a_model_follow_the_variables(expressions: list[str]) -> None:
    for expression in expressions:
        for name, labels in SELECTOR.findall(expression):
            if name.startswith(
                ("inferwatch_drift", "inferwatch_detector_last", "inferwatch_feature", "inferwatch_instances")
            ):
                assert 'model_namespace=~"$model_namespace", model_name=~"$model_name"' in labels, expression


def test_rates_follow_the_scrape_interval(expressions: list[str]) -> None:
    for expression in expressions:
        ranges = re.findall(r"\brate\(\w+\{[^}]*\}\[([^]]+)\]\)", expression)
        assert set(ranges) <= {"$__rate_interval"}, expression
        assert len(ranges) == expression.count("rate("), expression


def test_counters_are_only_read_as_rates(expressions: list[str]) -> None:
    for expression in expressions:
        for counter in re.finditer(r"\w+(?:_total|_bucket|_count|_sum)\{", expression):
            assert expression[: counter.start()].endswith(("rate(", "increase(")), expression


def test_panels_do_not_overlap(board: Json) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_have_ids_of_their_own(board: Json) -> None:
    identifiers = [panel["id"] for panel in board["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    assert all(identifier > 0 for identifier in identifiers)


def test_the_dashboard_is_read_only_and_refreshes(board: Json) -> None:
    assert board["editable"] is False
    assert (board["timezone"], board["refresh"], board["tags"]) == ("utc", "30s", ["inferwatch"])


def test_links_keep_what_the_user_chose(board: Json) -> None:
    assert all(link["includeVars"] and link["keepTime"] for link in board["links"])


@pytest.mark.parametrize("title", ["Models, worst first", "Features by score"])
def test_tables_show_every_query_under_its_heading(panels: list[Json], title: str) -> None:
    panel = next(panel for panel in panels if panel["title"] == title)
    renamed = panel["transformations"][1]["options"]["renameByName"]
    values = [name for name in renamed if name.startswith("Value")]
    assert values == (["Value"] if len(panel["targets"]) == 1 else [f"Value #{t['refId']}" for t in panel["targets"]])
    overridden = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    assert overridden <= set(renamed.values())
    assert panel["transformations"][2]["options"]["sort"][0]["field"] in renamed.values()
