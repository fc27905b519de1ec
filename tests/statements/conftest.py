"""A finished run in a folder, to be spoiled and verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from paper_log import PaperLog, run_record

from ledger.errors import VerificationError
from ledger.statements.statement import run_statement
from ledger.statements.verify import verify

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Made:
    """A finished run: `out/a.parquet`, `out/b/a.parquet`, `out.intoto.jsonl`, and `trust`."""

    folder: Path
    log: PaperLog

    @property
    def statement(self) -> Path:
        return self.folder / "out.intoto.jsonl"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def trust(self) -> Path:
        return self.folder / "trust"

    def state(
        self, snapshot: dict[str, Any] | None = None, logged: dict[str, Any] | None = None, between: int = 0, **fields: Any
    ) -> None:
        """Make the statement anew, with other fields here and there."""
        receipt = self.log.log_snapshot(**(snapshot or {}))
        line = self.log.seal(run_statement(run_record(receipt, **fields)))
        self.log.fill(between)
        self.statement.write_bytes(line + b"\n" + self.log.log_statement(line, **(logged or {})) + b"\n")

    def lines(self) -> list[bytes]:
        return self.statement.read_bytes().splitlines()

    def check(self, *paths: Path, **options: Any) -> str:
        return "\n".join(verify(*(paths or (self.out,)), trust=self.trust, **options).checked)

    def refused(self, said: str, *paths: Path, **options: Any) -> None:
        with pytest.raises(VerificationError, match=said):
            self.check(*paths, **options)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = Made(tmp_path, PaperLog())
    made.log.fill(3)
    (made.out / "b").mkdir(parents=True)
    (made.out / "a.parquet").write_bytes(b"kept")
    (made.out / "b/a.parquet").write_bytes(b"kept b")
    made.trust.write_text(made.log.trust_text)
    made.state()
    return made
