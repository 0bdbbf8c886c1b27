"""Certificates for tests, made by openssl: authorities, and what they sign for the loopback."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.components import missing

_SUBJECT = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(directory: Path, *arguments: str) -> None:
    """Run openssl in a directory; skips where it is not there."""
    if shutil.which("openssl") is None:
        missing("openssl", "apt-get install openssl")
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def authority(directory: Path, name: str) -> Path:
    """Make an authority `NAME.pem` with its key `NAME.key`; return its certificate."""
    subject = ("-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign")
    openssl(directory, "req", "-x509", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject)
    return directory / f"{name}.pem"


def signed(directory: Path, name: str, by: str) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that an authority has signed; return it and its key."""
    signer = ("-CA", f"{by}.pem", "-CAkey", f"{by}.key")
    openssl(directory, "req", "-x509", *_KEY, *signer, "-keyout", f"{name}.key", "-out", f"{name}.pem", *_SUBJECT)
    return directory / f"{name}.pem", directory / f"{name}.key"
