"""A process that has everything imported, and the shim between it and the C library: forks a command at each line that it reads.

    LD_PRELOAD=shim.so python -m tests.faults.host shim.so

A line in: {"where", "root", "told", "calls", "arguments", "number", "how", "error"}; a line out: the exit code, negative for a
signal.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
from typing import Any

from ledger.cli import COMMANDS, run

from ledger.store import database

SAID = 2
"""The descriptor of what the command says; 1 is kept for the answers until a child takes both."""


def _child(shim: Any, task: dict[str, Any]) -> None:
    os.chdir(task["where"])
    os.environ.pop("CONSENT_LEDGER", None)
    told = os.open(task["told"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(told, 1)
    os.dup2(told, SAID)
    calls = os.open(task["calls"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    shim.arm(os.fsencode(task["root"]), calls, ctypes.c_long(task["number"]), task["how"], task["error"])
    code = 99
    try:
        code = run(task["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main() -> None:
    shim = ctypes.CDLL(sys.argv[1])
    modules = ["ledger.book", "ledger.filter", "ledger.store.migrations", "alembic.command", "ledger.statements.verify"]
    for name in modules + [f"ledger.cli.{command}" for command in COMMANDS.values() if command != "serve"]:
        importlib.import_module(name)
    database.BUSY_SECONDS = 1  # how long a disk that is dead is hoped for
    print("ready", flush=True)
    for line in sys.stdin:
        if (process := os.fork()) == 0:
            _child(shim, json.loads(line))
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
