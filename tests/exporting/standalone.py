"""verify.py as a module, and as the program that an outsider runs; and prefix trees, written down as docs/formats.md has them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from ledger.log import canonical

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "ledger" / "exporting" / "verify.py"


def _load() -> Any:
    """By its path: nothing may import it by the name that it has in the wheel."""
    spec = spec_from_file_location("standalone_verify", SOURCE)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


verify: Any = _load()


def refused(check: Callable[..., object], *arguments: object) -> str:
    """Why; empty where it is taken. Nothing but Refused may come out."""
    try:
        check(*arguments)
    except verify.Refused as error:
        assert str(error)
        return str(error)
    return ""


@dataclass(frozen=True)
class Told:
    code: int
    out: str
    err: str


def run(*arguments: str | Path, file: Path = SOURCE, python: str = sys.executable, cwd: Path | None = None) -> Told:
    """In a bare Python: -I takes no environment and no user's packages, -S no installed ones."""
    line = [python, "-I", "-S", str(file), *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=cwd, check=False)
    return Told(done.returncode, done.stdout, done.stderr)


def verdict(trust: Path, *paths: Path, signature_only: bool = False) -> Told:
    """The same in this process: for the many."""
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = verify.main(["--trust", str(trust), *(["--signature-only"] if signature_only else []), *map(str, paths)])
    return Told(code, out.getvalue(), err.getvalue())


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@dataclass
class Naive:
    """A prefix tree over a few subjects: subject -> (what is said, blind). Everything is computed anew each time."""

    said: Mapping[str, tuple[dict[str, Any], bytes]]
    seed: bytes = field(default=bytes(range(100, 132)))

    def index(self, subject: str) -> bytes:
        return sha256(b"consent-ledger/index/v1\n" + self.seed + subject.encode())

    def value(self, subject: str) -> bytes:
        said, blind = self.said[subject]
        return sha256(b"consent-ledger/value/v1\n" + blind + canonical.encode(said))

    def bits(self, subject: str) -> str:
        return "".join(f"{byte:08b}" for byte in self.index(subject))

    def root(self, prefix: str = "") -> bytes:
        below = [subject for subject in self.said if self.bits(subject).startswith(prefix)]
        if not below:
            return sha256(b"\x12")
        if len(below) == 1:
            return sha256(b"\x10" + self.index(below[0]) + self.value(below[0]))
        return sha256(b"\x11" + self.root(prefix + "0") + self.root(prefix + "1"))

    @property
    def fields(self) -> dict[str, str]:
        """As an act has them."""
        return {"subjects_root": self.root().hex(), "subjects_seed": self.seed.hex()}

    def document(self, subject: str, act: bytes) -> dict[str, Any]:
        """act: the receipt's line."""
        bits, prefix, path = self.bits(subject), "", []
        while sum(self.bits(other).startswith(prefix) for other in self.said) > 1:
            path.append(self.root(prefix + ("1" if bits[len(prefix)] == "0" else "0")))
            prefix += bits[len(prefix)]
        here = [other for other in self.said if self.bits(other).startswith(prefix)]
        found: dict[str, Any] = {"format": "urn:consent-ledger:membership:v1", "subject_id": subject, "act": act.decode()}
        if path:
            found["path"] = [canonical.encode_base64(value) for value in path]
        if here == [subject]:
            said, blind = self.said[subject]
            found["said"] = said
            if blind:
                found["blind"] = canonical.encode_base64(blind)
        elif here:
            found["other"] = {
                "index": canonical.encode_base64(self.index(here[0])),
                "value": canonical.encode_base64(self.value(here[0])),
            }
        return found

    def membership(self, subject: str, act: bytes) -> bytes:
        return canonical.encode(self.document(subject, act)) + b"\n"
