"""The statement of a selection: what it may say, and what adds up."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import IntegrityError, VerificationError
from ledger.log import canonical
from ledger.statements.selection_statement import SELECTION, SelectedShard, selection_of, selection_statement
from ledger.statements.verify import read_file, verify
from tests.statements.paper_log import PaperLog, selection_record


def record(**fields: Any) -> Any:
    return selection_record(PaperLog().log_snapshot(), **fields)


def test_what_is_written_is_read_back() -> None:
    made = record()
    read = selection_of(canonical.decode(selection_statement(made)))
    assert read == replace(made, shards=tuple(made.shards), snapshot_receipt=read.snapshot_receipt)
    assert (read.rows_in, read.rows_kept, read.rows_dropped) == (20, 12, {"no_record": 2, "withdrawn": 6})
    assert [*read.digests] == ["a.parquet.blocks", "a.parquet.rows", "b/a.parquet.blocks", "b/a.parquet.rows"]
    assert [*read.shard_digests] == ["a.parquet", "b/a.parquet"]


def test_what_does_not_add_up_is_no_statement() -> None:
    first, second = record().shards
    for fields in (
        {"unmapped": 9},
        {"rests_on": {"session": 11}},
        {"shards": [replace(first, rows_kept=7), second]},
        {"shards": [first, first]},
        {"shards": [replace(first, name="../a"), second]},
        {"shards": [replace(first, size=-1), second]},
    ):
        with pytest.raises(IntegrityError, match="does not make a statement"):
            selection_statement(record(**fields))


@pytest.mark.parametrize("name", ["rows_in", "rows_kept", "rows_dropped", "shards", "kind"])
def test_totals_order_and_kind(name: str) -> None:
    document = canonical.decode(selection_statement(record()))
    said = document["predicate"]
    if name == "kind":
        document["predicateType"] = SELECTION + "x"
    elif name == "shards":
        said["shards"].reverse()
    else:
        said[name] = {"expired": 1} if name == "rows_dropped" else said[name] + 1
    with pytest.raises(VerificationError):
        selection_of(document)


def test_shards_blocks_and_positions_are_held_to_it(tmp_path: Path) -> None:
    log, content = PaperLog(), b"rows of everyone"
    of = lambda data: sha256(data).hexdigest()  # noqa: E731
    blocks = sha256(content).digest()
    shard = SelectedShard(
        name="a.parquet", sha256=of(content), size=len(content), blocks_sha256=of(blocks), positions_sha256=of(b"positions"),
        rows_in=10, rows_kept=6, rows_dropped={"withdrawn": 4})  # fmt: skip
    for folder, files in (("raw", {"": content}), ("sel", {".rows": b"positions", ".blocks": blocks})):
        (tmp_path / folder).mkdir()
        for suffix, data in files.items():
            (tmp_path / folder / f"a.parquet{suffix}").write_bytes(data)

    def state(stated: SelectedShard) -> None:
        made = selection_record(log.log_snapshot(), shards=[stated], rests_on={"session": 6}, subjects=None)
        line = log.seal(selection_statement(made))
        (tmp_path / "sel.intoto.jsonl").write_bytes(line + b"\n" + log.log_statement(line, predicate_type=SELECTION) + b"\n")

    assert read_file(tmp_path / "sel/a.parquet.rows", 9) == b"positions"
    with pytest.raises(VerificationError, match="longer than the 8 bytes"):
        read_file(tmp_path / "sel/a.parquet.rows", 8)
    state(shard)
    told = verify(tmp_path / "sel", trust=log.trust, shards=tmp_path / "raw").checked
    assert any("20 rows" not in said and "10 rows in place, 6 of them allowed" in said for said in told)
    told = verify(tmp_path / "sel", trust=log.trust, signature_only=True).checked
    assert sum("NOT looked at" in said for said in told) == 2
    state(replace(shard, sha256=of(b"another")))
    with pytest.raises(VerificationError, match="its digest is another"):
        verify(tmp_path / "sel", trust=log.trust, shards=tmp_path / "raw")
    (tmp_path / "sel/a.parquet.blocks").write_bytes(bytes(32))
    state(replace(shard, blocks_sha256=of(bytes(32))))
    verify(tmp_path / "sel", trust=log.trust)
    with pytest.raises(VerificationError, match="are those of another shard"):
        verify(tmp_path / "sel", trust=log.trust, shards=tmp_path / "raw")
