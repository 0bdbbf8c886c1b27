"""Dashboards as files: one JSON each, the same bytes on every run."""

from __future__ import annotations

from pathlib import Path

from inferwatch.errors import MissingExtra


def build(out: Path) -> list[Path]:
    """Write every dashboard into the folder `out`, made where absent, and return the files.

    Grafana 10 to 13 import them. Raises `MissingExtra` without the extra `dashboards`.
    """
    try:
        from grafana_foundation_sdk.cog.encoder import JSONEncoder

        from inferwatch_dashboards.fleet import fleet_and_model
    except ModuleNotFoundError as error:
        raise MissingExtra("building dashboards", "dashboards") from error
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for dashboard in (fleet_and_model(),):
        path = out / f"{dashboard.uid}.json"
        path.write_text(JSONEncoder(indent=2, sort_keys=True).encode(dashboard) + "\n", encoding="utf-8")
        written.append(path)
    return written
