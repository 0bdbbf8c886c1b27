"""Starts processes that are to be killed, each in the time of a fork: what they import is imported once.

Reads a line of JSON, the arguments, forks, says the process's id, waits for its end, says so; then reads the next one.
`proxy ...` is the command `inferwatch proxy`; `tf_serving PORT ...` is the model server with the middleware inside.
"""

from __future__ import annotations

import json
import os
import socket
import sys

from inferwatch_cli import proxying
from inferwatch_cli.main import main
from tests.integration import tf_serving

LOADED = (proxying, tf_serving)


def run(command: str, *arguments: str) -> None:
    if command == "tf_serving":
        port, *captured = arguments
        with socket.create_server(("127.0.0.1", int(port))) as listener:
            tf_serving.main([str(listener.fileno()), *captured])
    else:
        sys.argv = ["inferwatch", command, *arguments]
        main()


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)  # what it says is not for the reader of ids
            run(*json.loads(line))
            os._exit(0)
        print(child, flush=True)  # noqa: T201 - to the test
        os.waitpid(child, 0)
        print(flush=True)  # noqa: T201 - it has ended
