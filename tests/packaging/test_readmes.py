"""What the pages say can be done: their links, commands, configurations and imports, as they stand there."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest
import typer
from _pytest.mark import ParameterSet

from inferwatch.settings import Settings, load_settings
from inferwatch_cli.main import app
from tests.components import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/README.md")), *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str, without: str = "\0") -> list[ParameterSet]:
    """Return each block of code of a language that does not hold a text, named by its page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            if without not in block[1]:
                line = text.count("\n", 0, block.start()) + 2
                found.append(pytest.param(textwrap.dedent(block[1]), id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def prose(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"\]\([^)]*\)", "", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if not link.startswith("http")]
    assert [link for link in links if not leads_somewhere(page, link)] == []


@pytest.mark.parametrize("text", blocks("yaml", without="apiVersion"))
def test_configurations_are_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "inferwatch.yaml"
    file.write_text(text, encoding="utf-8")
    assert isinstance(load_settings(file), Settings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path) -> None:
    text = re.sub(r"\\\n *", "", page.read_text(encoding="utf-8"))
    for line in re.findall(r"(?:^(?:\$ )?|`)inferwatch ((?:[a-z]+ )+[^`\n]*|[a-z]+)", text, re.MULTILINE):
        command: Any = typer.main.get_command(app)
        words = shlex.split(line, comments=True)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("text", blocks("python"))
def test_what_is_imported_exists(text: str) -> None:
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), {})  # noqa: S102 - an import of ours
