"""Secrets that lie in files, as clusters mount them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A text in a file, read each time it is needed: it can be exchanged while a process runs."""

    path: Path

    def read(self) -> str:
        """Return the text, the end of its last line left out. Raises `ValueError`, which names the file."""
        try:
            text = self.path.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path}: {getattr(error, 'strerror', None) or 'no UTF-8 text'}") from error
        if not text:
            raise ValueError(f"{self.path}: the file is empty")
        return text
