"""Names that lead nowhere, documents that are none, bytes that somebody changed: only VerificationError comes out."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import UsageError, VerificationError
from ledger.statements.limits import LIMITS
from ledger.statements.verify import load_trust, open_statement, verify
from tests.statements.conftest import Made

ROOT = Path(__file__).resolve().parents[2]


# What does not hold: what is named


@pytest.mark.parametrize("name", ["absent", "absent.intoto.jsonl", "absent/", "nul\0", "x" * 300, "/"])
def test_what_is_not_there(made: Made, name: str) -> None:
    made.refused("cannot|no absent", made.folder / name)


def test_a_folder_without_a_statement(made: Made) -> None:
    made.statement.unlink()
    made.refused("no out.intoto.jsonl")


def test_nothing_named(made: Made) -> None:
    with pytest.raises(UsageError, match="nothing to verify"):
        verify(trust=made.trust)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1", "may be cut short"),
        (b"PAR1\n", "JSON"),
        (b"{}\n", "nothing that can be verified alone"),
        (b"", "cut short"),
        (b'{"format":["x"]}\n', "nothing that can be verified alone"),
        (b"x" * (LIMITS.membership + 1), "is longer than"),
    ],
)
def test_what_is_no_receipt(made: Made, content: bytes, said: str) -> None:
    path = made.folder / "thing"
    path.write_bytes(content)
    made.refused(said, path)


def test_an_act_receipt_by_any_other_name_is_nothing_alone(made: Made) -> None:
    for name, receipt, said in (
        ("line", made.log.log_snapshot(), "nothing that can be verified alone"),
        ("x.receipt", made.log.log_statement(b""), "where one of 'snapshot_compiled' belongs"),
    ):
        (made.folder / name).write_bytes(receipt + b"\n")
        made.refused(said, made.folder / name)


def test_receipts_cut_short(made: Made) -> None:
    path = made.folder / "s.parquet"
    path.write_bytes(b"file")
    for name in ("s.parquet.receipt", "e1.json"):
        (made.folder / name).write_bytes(made.log.log_snapshot())
        made.refused("cut short", made.folder / name)
    made.refused("cut short", path)


def test_a_pipe_or_a_folder_is_no_document(made: Made) -> None:
    os.mkfifo(made.folder / "pipe")
    os.mkfifo(made.folder / "p.intoto.jsonl")
    for name in ("pipe", "p.intoto.jsonl"):
        made.refused("is not a file", made.folder / name)
    made.statement.unlink()
    made.statement.mkdir()
    made.refused("is not a file", made.out)


def test_a_folder_that_may_not_be_read_is_a_failure(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", denied)
    made.refused("cannot be read: .*Permission denied")


def test_sizes_are_bounded(made: Made) -> None:
    with made.statement.open("wb") as file:
        file.truncate(LIMITS.statement + 1)
    made.refused("is longer than")
    with pytest.raises(VerificationError, match="is longer than"):
        open_statement(bytes(LIMITS.statement + 1), made.log.trust)
    with made.trust.open("wb") as file:
        file.truncate(LIMITS.trust + 1)
    made.refused("is longer than")


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff", "not UTF-8"), (b"witness x\n", "line 1"), (b"log x\n", "line 1"), (b"", "trusted")]
)
def test_trust_files(made: Made, content: bytes, said: str) -> None:
    made.trust.write_bytes(content)
    made.refused(said)


def test_a_trust_file_that_is_not_there(made: Made) -> None:
    with pytest.raises(VerificationError, match="cannot read"):
        load_trust(made.folder / "nowhere")


# Hostile bytes


@pytest.mark.parametrize("unlogged", [False, True])
def test_every_changed_byte_of_a_statement_is_noticed(made: Made, unlogged: bool) -> None:
    """Every place, two changes each, signatures and proofs checked in full; no shard is read."""
    data = made.lines()[0] + b"\n" if unlogged else made.statement.read_bytes()
    trust = made.log.trust
    open_statement(data, trust, allow_unlogged=unlogged)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for at in range(len(data)):
        for new in (data[at] ^ 1 << chance.randrange(8), (data[at] + chance.randrange(1, 256)) % 256):
            spoiled = data[:at] + bytes([new]) + data[at + 1 :]
            with pytest.raises(VerificationError):
                open_statement(spoiled, trust, allow_unlogged=unlogged)
                pytest.fail(f"byte {at} may be {new:#x} (seed {seed})")


def test_every_changed_byte_of_a_trust_file_is_noticed(made: Made) -> None:
    """But for the white space that ends it."""
    data = made.trust.read_bytes()
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for at in range(len(data) - 1):
        for new in (data[at] ^ 1 << chance.randrange(8), (data[at] + chance.randrange(1, 256)) % 256):
            if bytes([data[at], new]).isspace():
                continue
            made.trust.write_bytes(data[:at] + bytes([new]) + data[at + 1 :])
            with pytest.raises(VerificationError):
                verify(made.statement, trust=made.trust, signature_only=True)
                pytest.fail(f"byte {at} may be {new:#x} (seed {seed})")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_spliced_and_repeated_statements_are_refused(made: Made, data: st.DataObject) -> None:
    whole = made.statement.read_bytes()
    start, end = sorted((data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(whole)))))
    insert = data.draw(st.sampled_from([b"", whole[start:end], b"\n", b'"', b"{", b"\x00"]) | st.binary(max_size=20))
    spoiled = whole[:start] + insert + whole[end:]
    if spoiled != whole:
        with pytest.raises(VerificationError):
            open_statement(spoiled, made.log.trust)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), suffix=st.sampled_from(["", ".intoto.jsonl", ".receipt"]))
def test_noise_is_refused(made: Made, content: bytes, suffix: str) -> None:
    path = made.folder / f"noise{suffix}"
    path.write_bytes(content)
    with pytest.raises(VerificationError):
        verify(path, trust=made.log.trust)
    path.unlink()
