"""Runs the command: `python -m inferwatch_cli`."""

from inferwatch_cli.main import main

main()
