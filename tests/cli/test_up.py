"""Everything in one process, asked without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from inferwatch.events import REQUEST_TYPE
from inferwatch.settings import AliasSettings, AuthSettings, IngestSettings, Settings
from inferwatch_cli.checks import Checked
from inferwatch_cli.parts import Service
from inferwatch_cli.up import open_up
from inferwatch_logger.access import Application
from tests.logger.test_access import TOKEN, ask

pytestmark = pytest.mark.usefixtures("derived")


def test_auth_guards_what_reads_and_hides_where_events_are_taken(tmp_path: Path) -> None:
    settings = Settings(auth=AuthSettings(ingest_path_prefix="/s3gment/"))
    with open_up(Checked(settings, (), TOKEN), tmp_path) as up:
        statuses = {path: ask(up.application, path)[0] for path in ("/healthz", "/readyz", "/metrics", "/api/models")}
        assert statuses == {"/healthz": 200, "/readyz": 200, "/metrics": 200, "/api/models": 401}
        assert ask(up.application, "/api/models", authorization=f"Bearer {TOKEN}")[0] == 200
        assert ask(up.application, "/v1/models/a:explain", "POST", authorization=f"Bearer {TOKEN}")[0] == 401
        assert ask(up.application, "/events", "POST")[0] == 404
        assert ask(up.application, "/consumer/kserve/v2", "POST")[0] == 404
        for path in ("events", "consumer/kserve/v2"):
            assert ask(up.application, f"/s3gment/{path}", "POST")[0] == 400  # taken in, and no event


def test_other_senders_are_taken_as_they_are_configured(tmp_path: Path) -> None:
    settings = Settings(
        ingest=IngestSettings(modelmesh={"/mesh-b": "team-b"}, type_aliases=AliasSettings(request=("com.shop.asked",)))
    )
    payload = {"id": "69-1", "modelid": "m", "data": "", "status": "", "kind": "request"}
    with open_up(Checked(settings, ()), tmp_path) as up:
        assert ask(over(up.application, 41000), "/mesh-b", "POST", orjson.dumps(payload))[0] == 200
        event = envelope("a") | {"type": "com.shop.asked"}
        structured = "application/cloudevents+json"
        assert ask(up.application, "/", "POST", orjson.dumps(event), content_type=structured)[0] == 200
        assert models(up) == {"team-b/m": 1, "default/../invented\ufffda": 1}
    payload |= {"kind": "response", "status": "OK"}
    with open_up(Checked(settings, ()), tmp_path) as up:  # the other half comes to the next process
        assert ask(over(up.application, 41001), "/mesh-b", "POST", orjson.dumps(payload))[0] == 200
        items = orjson.loads(ask(up.application, "/api/payloads")[1])["items"]
        assert [item["outcome"] for item in items] == ["request_only", "paired"]


def over(application: Application, port: int) -> Application:
    """Return the application as it is seen over a connection from that port of another host."""

    async def connected(scope: Any, receive: Any, send: Any) -> None:
        await application(scope | {"client": ("10.0.0.1", port)}, receive, send)

    return connected


def models(up: Service) -> dict[str, int]:
    """Return the events of every model."""
    items = orjson.loads(ask(up.application, "/api/models")[1])["items"]
    return {f"{item['namespace']}/{item['name']}": item["events"] for item in items}


@pytest.mark.slow
def test_invented_model_names_make_no_series_and_open_no_files(tmp_path: Path) -> None:
    with open_up(Checked(Settings(), ()), tmp_path) as up:
        before = series(up)
        for part in range(4):
            members = [envelope(f"{part}-{number}") for number in range(2500)]
            status, _, _ = ask(
                up.application,
                "/events",
                "POST",
                orjson.dumps(members),
                content_type="application/cloudevents-batch+json",
            )
            assert status == 200
        listing = orjson.loads(ask(up.application, "/api/models")[1])
        assert (len(listing["items"]), listing["next"] is None) == (100, False)
        assert series(up) == before
        assert len(list(tmp_path.rglob("*"))) < 12


def series(up: Service) -> list[str]:
    """Return the names and labels of every metric, this process's own left out."""
    lines = ask(up.application, "/metrics")[1].splitlines()
    ours = [line.rpartition(" ")[0] for line in lines if line.startswith("inferwatch_")]
    return [name for name in ours if "reason=" not in name]


def envelope(name: str) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": name,
        "source": "test",
        "type": REQUEST_TYPE,
        "time": "2026-11-21T12:00:00Z",
        "inferenceservicename": f"../invented\x00{name}",
        "data": {"instances": [[1]]},
    }


@pytest.mark.parametrize("token", ["", "two words"])
def test_check_names_a_token_file_that_holds_none(tmp_path: Path, token: str) -> None:
    from inferwatch.errors import ConfigError
    from inferwatch_cli.checks import checked

    (tmp_path / "token").write_text(token)
    config = tmp_path / "inferwatch.yaml"
    config.write_text("auth: {bearer_token_file: token}")
    with pytest.raises(ConfigError) as raised:
        checked(config)
    (fault,) = raised.value.faults
    assert fault.path == "auth.bearer_token_file"
    assert "one token" in fault.message
