"""Certificates for tests, made by openssl: authorities, and what they sign for the loopback."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.components import missing

_SUBJECT = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
_END = ("-addext", "basicConstraints=critical,CA:FALSE")
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(directory: Path, *arguments: str) -> None:
    """Run openssl in a directory; skips where it is not there."""
    if shutil.which("openssl") is None:
        missing("openssl", "apt-get install openssl")
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def authority(directory: Path, name: str, *, says_its_use: bool = True) -> Path:
    """Make an authority `NAME.pem` with its key `NAME.key`; return its certificate."""
    use = ("-addext", "keyUsage=critical,keyCertSign") if says_its_use else ()
    files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl(directory, "req", "-x509", *_KEY, *files, "-subj", f"/CN={name}", *use)
    return directory / f"{name}.pem"


def signed(directory: Path, name: str, by: str) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that an authority has signed; return it and its key."""
    signer = ("-CA", f"{by}.pem", "-CAkey", f"{by}.key")
    files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl(directory, "req", "-x509", *_KEY, *signer, *files, *_SUBJECT, *_END)
    return directory / f"{name}.pem", directory / f"{name}.key"
