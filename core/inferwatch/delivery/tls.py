"""How a sink over https is verified: by certificates in files, which are read anew when they change."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from inferwatch.errors import ConfigError, Fault

logger = logging.getLogger(__name__)


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


class Trust:
    """The context of a `Tls`, made anew when one of its files changes.

    A file that cannot be read then leaves the context as it was, and is told once. Raises `ConfigError` where it cannot
    be read at first.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._marks = self._marked()
        try:
            self._context = _made(tls)
        except (OSError, ValueError) as fault:  # a broken certificate is an OSError too
            raise ConfigError([Fault("tls", _sentence(tls, fault))]) from fault

    def context(self) -> ssl.SSLContext:
        """Return what is true now; another object than before where a file has changed."""
        marks = self._marked()
        if marks != self._marks:
            self._marks = marks
            try:
                self._context = _made(self._tls)
                logger.info("certificates are read anew: %s", ", ".join(map(str, _files(self._tls))))
            except (OSError, ValueError) as fault:
                logger.warning("the certificates of before stay in use: %s", _sentence(self._tls, fault))
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
        raise ValueError("a key needs the certificate that it belongs to")
    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate_file is not None:
        context.load_cert_chain(tls.certificate_file, tls.key_file, _no_password)
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; one without a password is needed")


def _files(tls: Tls) -> Iterator[Path]:
    return (path for path in (tls.ca_file, tls.certificate_file, tls.key_file) if path is not None)


def _sentence(tls: Tls, fault: Exception) -> str:
    return f"{', '.join(map(str, _files(tls)))} cannot be used: {fault}"
