"""A second process of this very program that works for this one: Python has one core a process.

What it is asked goes through its standard input, as JSON, and what it answers through a pipe that nobody else has: not standard
output, to which others write as well. It is done without where it cannot be started, and ends with whoever asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

from ledger import cores

_RUN = "import json, sys; a = json.loads(sys.stdin.buffer.readline()); sys.path[:] = a['path']; from {} import main; main(a)"


@contextlib.contextmanager
def beside(module: str, asked: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]] | None]:
    """The process, and what it answers; None where there is none. It is killed as the context ends. module: whose `main` is
    given what is asked, with `path` and the file descriptor `answer` besides, and hands it to `answering`."""
    python = cores.python()
    if python is None:
        yield None
        return
    path = [entry for entry in sys.path if isinstance(entry, str)]
    with contextlib.ExitStack() as stack:
        reader, writer = os.pipe()
        answer = stack.enter_context(os.fdopen(reader, "rb"))
        try:
            process = subprocess.Popen(  # noqa: S603 - this very program
                [python, "-P", "-c", _RUN.format(module)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[writer],
                bufsize=0,
            )
        except OSError:
            yield None
            return
        finally:
            os.close(writer)
        stack.enter_context(process)
        stack.callback(process.kill)
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended already, which its answer tells
            process.stdin.write(json.dumps({**asked, "path": path, "answer": writer}).encode() + b"\n")
        yield process, answer


def answering(asked: dict[str, Any], answer: Callable[[IO[bytes], dict[str, Any]], None]) -> None:
    """The whole of the second process. It ends without tidying up: a thread holds standard input."""
    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        del asked["path"]
        with os.fdopen(asked.pop("answer"), "wb") as out:
            answer(out, asked)
    except BaseException:
        os._exit(1)
    os._exit(0)


def _end_with(asking: IO[bytes]) -> None:
    """Nobody waits for the answer any more once the pipe is closed."""
    asking.read(1)
    os._exit(1)
