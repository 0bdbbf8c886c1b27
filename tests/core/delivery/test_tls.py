"""Sinks over https: whom they trust, what they show, and certificates that change while they run."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest

from inferwatch.delivery.http import HttpSink
from inferwatch.delivery.tls import Tls, Trust
from inferwatch.errors import ConfigError, DeliveryError
from inferwatch.events import CloudEvent
from tests.certificates import authority, openssl, signed
from tests.core.delivery.scripted_sink import scripted_sink
from tests.waiting import run

EVENTS = [CloudEvent(str(number), "/s", "t", data=b"x" * number) for number in range(5)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with three authorities, of which one is terse, a server's certificate by each, and a client's."""
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("one", "two", "terse"):
        authority(directory, name, says_its_use=name != "terse")
        signed(directory, f"server-{name}", name)
    signed(directory, "client", "one")
    openssl(directory, "pkey", "-aes256", "-passout", "pass:x", "-in", "client.key", "-out", "locked.key")
    return directory


def serving(made: Path, name: str, clients: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made / f"server-{name}.pem", made / f"server-{name}.key")
    if clients is not None:
        context.load_verify_locations(made / f"{clients}.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("name", ["one", "terse"])
def test_events_arrive_on_one_connection(made: Path, name: str) -> None:
    async def test() -> None:
        async with scripted_sink(tls=serving(made, name)) as server:
            sink = HttpSink(server.url, tls=Tls(ca_file=made / f"{name}.pem"))
            for _ in range(10):
                await sink.send(EVENTS)
            assert server.events == EVENTS * 10
            assert server.connections == 1
            await sink.aclose()

    run(test())


@pytest.mark.parametrize("ca", [None, "two.pem"])
def test_a_server_that_is_not_trusted_gets_nothing_and_may_be_retried(made: Path, ca: str | None) -> None:
    async def test() -> None:
        async with scripted_sink(tls=serving(made, "one")) as server:
            sink = HttpSink(server.url, tls=Tls(ca_file=None if ca is None else made / ca))
            with pytest.raises(DeliveryError, match="certificate verify failed") as raised:
                await sink.send(EVENTS)
            assert raised.value.retryable
            trusting = HttpSink(server.url, tls=Tls(verify=False))
            await trusting.send(EVENTS)
            assert server.events == EVENTS
            await trusting.aclose()

    run(test())


def test_a_name_that_is_not_the_certificates_is_refused(made: Path) -> None:
    async def test() -> None:
        async with scripted_sink(tls=serving(made, "one")) as server:
            sink = HttpSink(f"https://localhost:{server.port}", tls=Tls(ca_file=made / "one.pem"))
            with pytest.raises(DeliveryError, match="Hostname mismatch"):
                await sink.send(EVENTS)

    run(test())


def test_a_changed_authority_counts_at_once(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def replaced(name: str) -> None:
        shutil.copy(made / name, tmp_path / "next")
        (tmp_path / "next").replace(tmp_path / "ca.pem")  # as Kubernetes does

    async def test() -> None:
        replaced("one.pem")
        async with scripted_sink(tls=serving(made, "one")) as old, scripted_sink(tls=serving(made, "two")) as new:
            before = HttpSink(old.url, tls=Tls(ca_file=tmp_path / "ca.pem"))
            after = HttpSink(new.url, tls=Tls(ca_file=tmp_path / "ca.pem"))
            await before.send(EVENTS)
            with pytest.raises(DeliveryError, match="certificate verify failed"):
                await after.send(EVENTS)
            replaced("two.pem")
            await after.send(EVENTS)
            with pytest.raises(DeliveryError, match="certificate verify failed"):
                await before.send(EVENTS)
            assert (old.events, new.events) == (EVENTS, EVENTS)
            (tmp_path / "ca.pem").write_text("half a file")
            await after.send(EVENTS)
            (tmp_path / "ca.pem").unlink()
            await after.send(EVENTS)
            assert (len(new.events), new.connections) == (15, 1), "what is trusted is kept"
            for sink in (before, after):
                await sink.aclose()

    run(test())
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the certificates of before stay in use"
    ] * 2


def test_a_client_shows_its_certificate_where_it_is_asked(made: Path) -> None:
    async def test() -> None:
        async with scripted_sink(tls=serving(made, "two", clients="one")) as server:
            trust = made / "two.pem"
            stranger = HttpSink(server.url, tls=Tls(ca_file=trust))
            with pytest.raises(DeliveryError) as raised:
                await stranger.send(EVENTS)
            assert raised.value.retryable
            known = HttpSink(
                server.url,
                tls=Tls(ca_file=trust, certificate_file=made / "client.pem", key_file=made / "client.key"),
            )
            await known.send(EVENTS)
            assert server.events == EVENTS
            await known.aclose()

    run(test())


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        (Tls(ca_file=Path("none.pem")), "none.pem cannot be used: .*No such file"),
        (Tls(ca_file=Path("client.key")), "client.key cannot be used"),
        (Tls(certificate_file=Path("client.pem")), "client.pem cannot be used"),
        (Tls(certificate_file=Path("client.pem"), key_file=Path("one.key")), "cannot be used: .*mismatch"),
        (Tls(certificate_file=Path("client.pem"), key_file=Path("locked.key")), "the key is encrypted"),
        (Tls(key_file=Path("client.key")), "tls.key_file: a key needs the certificate"),
        (Tls(certificate_file=Path("client.pem"), key_file=Path("none.key")), "tls.key_file: none.key cannot be used"),
        (
            Tls(certificate_file=Path("none.pem"), key_file=Path("one.key")),
            "tls.certificate_file: none.pem with one.key",
        ),
    ],
)
def test_files_that_cannot_be_used(made: Path, monkeypatch: pytest.MonkeyPatch, tls: Tls, words: str) -> None:
    monkeypatch.chdir(made)
    with pytest.raises(ConfigError, match=words):
        Trust(tls)
