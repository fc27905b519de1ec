"""One target in this process, under libFuzzer: `python -m tests.fuzz.one TARGET [libFuzzer's options and folders]`."""

from __future__ import annotations

import hashlib
import sys

import atheris

with atheris.instrument_imports(include=["ledger"]):
    from tests.fuzz.targets import CORPUS, TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)

    def read(data: bytes) -> None:
        try:
            TARGETS[name](data)
        except Exception:
            # libFuzzer keeps what took too long or too much memory; on an exception it may be ended before it does.
            (CORPUS / name / f"crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            raise

    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
