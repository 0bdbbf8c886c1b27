"""How a sink over https is verified: by certificates in files, which are read anew when they change."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inferwatch.errors import ConfigError, Fault

logger = logging.getLogger(__name__)

FILES: Final = ("ca_file", "certificate_file", "key_file")
KEY_ALONE: Final = "a key needs the certificate that it belongs to"


@dataclass(frozen=True, slots=True)
class Tls:
    """What a client trusts and shows. Files are PEM.

    `ca_file`: the certificates that servers must be signed by, instead of the system's. `certificate_file`, `key_file`:
    what the client shows, where it is asked; the key may be in the file of the certificate. `verify`: False trusts any
    server.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    verify: bool = True

    @classmethod
    def of(cls, files: Mapping[str, str | Path | None]) -> Tls:
        """Return what a mapping of `ca_file`, `certificate_file`, `key_file` says. Raises `ConfigError` for others."""
        told = f"unknown key; allowed here: {', '.join(FILES)}"
        if unknown := [Fault(f"tls.{key}", told) for key in files if key not in FILES]:
            raise ConfigError(unknown)
        paths = {key: Path(path) for key, path in files.items() if path is not None}
        return cls(paths.get("ca_file"), paths.get("certificate_file"), paths.get("key_file"))


class Trust:
    """The context of a `Tls`, made anew when one of its files changes.

    A file that cannot be read then leaves the context as it was, and is told once. Raises `ConfigError` where it cannot
    be read at first.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._marks = self._marked()
        self._context = _made(tls)

    def context(self) -> ssl.SSLContext:
        """Return what is true now; another object than before where a file has changed."""
        marks = self._marked()
        if marks != self._marks:
            self._marks = marks
            try:
                self._context = _made(self._tls)
                logger.info("certificates are read anew: %s", ", ".join(map(str, _files(self._tls))))
            except ConfigError as fault:
                logger.warning("the certificates of before stay in use: %s", fault)
        return self._context

    def _marked(self) -> list[tuple[int, int, int]]:
        found = []
        for path in _files(self._tls):
            with suppress(OSError):  # it is just being replaced
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return found


def _made(tls: Tls) -> ssl.SSLContext:
    if tls.key_file is not None and tls.certificate_file is None:
        raise ConfigError([Fault("tls.key_file", KEY_ALONE)])
    with _naming("ca_file", tls.ca_file):
        context = ssl.create_default_context(cafile=tls.ca_file)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # of Python 3.13: authorities of clusters lack what it asks for
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate_file is not None:
        with _naming("key_file", tls.key_file):  # is it there?
            pass
        with _naming("certificate_file", tls.certificate_file, tls.key_file):
            context.load_cert_chain(tls.certificate_file, tls.key_file, _no_password)
    return context


@contextmanager
def _naming(key: str, *paths: Path | None) -> Iterator[None]:
    """Raise `ConfigError` with the files that a block stumbles over; the errors of OpenSSL do not name them."""
    given = [path for path in paths if path is not None]
    try:
        for path in given:
            path.open("rb").close()
        yield
    except (OSError, ValueError) as fault:  # a broken certificate is an OSError too
        names = " with ".join(map(str, given)) or "the system's certificates"
        raise ConfigError([Fault(f"tls.{key}", f"{names} cannot be used: {fault}")]) from fault


def _no_password() -> str:
    raise ValueError("the key is encrypted; one without a password is needed")


def _files(tls: Tls) -> Iterator[Path]:
    return (path for path in (tls.ca_file, tls.certificate_file, tls.key_file) if path is not None)
