"""Which shards of a finished run have gone stale: by what is answered now and the index that the run has left. No shard is read.

A row is counted where one of its people was allowed by the run and is answered otherwise now, unless all of that person's rows
are allowed all the same. So there may be fewer that a run would drop now, and never more. It rests on the run key's signature
under statement and journal, and on the shards being the files that they were (size, inode, times); what is in them proves
`audit` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ledger import times
from ledger.consent import split_purpose
from ledger.errors import ShardError, UsageError
from ledger.log import canonical, checkpoint, note
from ledger.log.trust import Trust
from ledger.objects import named
from ledger.rerun import Indexed, indexed_in
from ledger.shards.answers import answers_at
from ledger.shards.columns import Columns
from ledger.shards.held import Hashes, Ints, meet
from ledger.shards.index_folder import IndexFolder, identity
from ledger.shards.journal import Line, journal_path, latest
from ledger.shards.terms import ALLOWED, EXPIRED
from ledger.snapshot import RULE_VERSION, Snapshot
from ledger.statements.statement import RunRecord
from ledger.statements.verify import load_trust, open_statement, read_statement, statement_path

_AUDIT = "decide its rows with `consent audit`"


@dataclass(frozen=True, kw_only=True)
class StaleShard:
    """rows: at most so many lack consent now. since: when the earliest act or expiry counts from that made it so; the run's
    moment where nothing tells. is_known: whether it is the file that the run made; if not, all of its rows count."""

    path: str
    rows: int
    since: datetime
    is_known: bool


@dataclass(frozen=True, kw_only=True)
class Stale:
    """shards: those that hold people who are no longer allowed as they were. of: how many shards the run made. to_redo: how many
    of them a run would do again now, for whatever has changed, these among them."""

    run_id: str
    purpose: str
    snapshot_sha256: str
    decided_at: datetime
    of: int
    to_redo: int
    shards: Sequence[StaleShard]

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def document(self) -> dict[str, Any]:
        """The JSON of `consent audit --stale` (schemas/stale.json)."""
        return {
            "stale": bool(self.shards),
            "run_id": self.run_id,
            "decided_at": times.text(self.decided_at),
            "purpose": self.purpose,
            "snapshot_sha256": self.snapshot_sha256,
            "of": self.of,
            "to_redo": self.to_redo,
            "rows": self.rows,
            **({"since": times.text(min(shard.since for shard in self.shards))} if self.shards else {}),
            "shards": [{"path": s.path, "rows": s.rows, "since": times.text(s.since), "known": s.is_known} for s in self.shards],
        }


def stale(folder: Path, snapshot: Snapshot, columns: Columns, trust: str | Path | Trust) -> Stale:
    """What the answers of a snapshot, as they stand now, mean for a folder that a run has finished.

    Raises VerificationError where the statement is not trusted, UsageError where there is no index of that run to go by, or the
    answers are of another purpose or version or of before the run; SnapshotError where they are too old.
    """
    now = times.now()
    snapshot.check_age(now)
    folder = named(folder)
    trust = trust if isinstance(trust, Trust) else load_trust(trust)
    stated = open_statement(read_statement(statement_path(folder)), trust, allow_unlogged=True)
    record = stated.record
    if not isinstance(record, RunRecord):
        raise UsageError(f"the statement of {folder} is not of a run", hint=_AUDIT)
    if (snapshot.purpose, snapshot.header.origin, RULE_VERSION) != (record.purpose, record.origin, record.rule_version):
        raise UsageError(
            f"{folder} was filtered for {record.purpose} of {record.origin}, and the answers are for {snapshot.purpose} of "
            f"{snapshot.header.origin}",
            hint=f"filter it again, or {_AUDIT}"
            if split_purpose(snapshot.purpose)[0] == split_purpose(record.purpose)[0]
            else "name the purpose that it was filtered for",
        )
    if columns.document() != record.columns:
        raise UsageError(f"{folder} was filtered by other columns", hint="leave them out: those of its statement are taken")
    index = IndexFolder.open(folder)
    if index is None:
        raise UsageError(f"there is no index beside {folder}", hint=f"{_AUDIT}: an index is left by the next run")
    indexed = indexed_in(index, answers_at(snapshot, now))
    lines = latest(_journal(folder), [key.public for key in trust.run], indexed.all_lines)
    if indexed.run.get("decided_at") != times.text(record.decided_at) or not indexed.known.is_exact:
        raise UsageError(f"the index beside {folder} is not that of the run which its statement speaks of", hint=_AUDIT)
    act = stated.snapshot.act
    covered = checkpoint.parse(note.parse(snapshot.header.checkpoint)[0]).size
    if covered < act["tree_size"] or snapshot.header.as_of < times.parse(act["as_of"]):
        raise UsageError("the answers are older than those of the run", hint="compile them anew with `consent snapshot`")
    categories = canonical.encode({"listed": sorted(snapshot.header.categories)} if snapshot.header.categories else {}).decode()
    decided = record.answers_sha256, canonical.encode(dict(record.columns)).decode(), categories
    since = _Since(indexed, act["tree_size"], record.decided_at, now)
    found, to_redo = [], 0
    for shard in record.shards:
        line, path = lines.get(shard.output), folder / shard.output
        changed = any_of = held = None
        if line is not None and _is_of(line, shard.output_sha256, decided, path, index):
            changed = indexed.changed_since(line["index"]["answers"])
        if line is not None and changed is not None:
            any_of = indexed.has_any(line["index"]["subjects"], changed)
            held = indexed.subjects(line["index"]["subjects"]) if any_of else None
        if any_of is False:
            continue
        to_redo += 1
        if held is None or changed is None:
            found.append(StaleShard(path=str(path), rows=shard.rows_kept, since=record.decided_at, is_known=False))
            continue
        lost = meet(changed, held.keys) & (held.rows > 0) & ~since.is_allowed(held.keys)
        if lost.any():
            rows_lost = min(int(held.rows[lost].sum()), shard.rows_kept)
            found.append(StaleShard(path=str(path), rows=rows_lost, since=since(held.keys[lost]), is_known=True))
    return Stale(
        run_id=record.run_id,
        purpose=record.purpose,
        snapshot_sha256=snapshot.sha256,
        decided_at=record.decided_at,
        of=len(record.shards),
        to_redo=to_redo,
        shards=found,
    )


def _journal(folder: Path) -> bytes:
    try:
        return journal_path(folder).read_bytes()
    except OSError as error:
        raise ShardError(f"cannot read {journal_path(folder)}: {error.strerror}", hint=_AUDIT) from error


def _is_of(line: Line, output_sha256: str, decided: tuple[str, str, str], path: Path, index: IndexFolder) -> bool:
    """Whether a line is that of the shard which the statement speaks of, and the file still the one that it made.

    decided: by which answers, columns and categories, as the statement says.
    """
    deciding, entry = line["deciding"], line.get("index")
    return (
        entry is not None
        and entry["salt"] == index.salt_sha256
        and line["result"]["output_sha256"] == output_sha256
        and (deciding["answers_sha256"], deciding["columns"], deciding["categories"]) == decided
        and str(identity(path, follow=False)) == entry["output"]
    )


class _Since:
    """From when those who were allowed are not, as far as the answers tell."""

    def __init__(self, indexed: Indexed, entries: int, decided_at: datetime, now: datetime) -> None:
        self._known = indexed.known
        self._entries, self._decided_at = entries, decided_at
        self._terms = indexed.answers.terms
        plain, _, by_row = self._terms.plain()
        self._all_allowed = (plain == ALLOWED) & ~by_row

    def _codes(self, keys: Hashes) -> Ints:
        """-1 for those whom the answers do not know."""
        if not len(self._known.keys):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self._known.keys, keys), len(self._known.keys) - 1)
        return np.where(self._known.keys[at] == keys, self._known.order[at], -1)

    def is_allowed(self, keys: Hashes) -> Any:
        """Of each key, whether all rows of whose it is are allowed."""
        codes = self._codes(keys)
        return np.append(self._all_allowed, False)[codes]

    def __call__(self, keys: Hashes) -> datetime:
        return min(map(self._of, self._codes(keys).tolist()))

    def _of(self, code: int) -> datetime:
        terms = self._terms
        at, _ = terms.rows_of(np.array([code] if code >= 0 else [], np.int64))
        expires = terms.yes_expires_at[at]
        ran_out = (terms.yes_lapsed[at] == EXPIRED) & (expires > times.micros(self._decided_at))
        moments = [
            *terms.no_at[at][terms.no_position[at] >= self._entries].tolist(),
            *expires[ran_out].tolist(),
            *terms.yes_at[at][terms.yes_position[at] >= self._entries].tolist(),
        ]
        return times.from_micros(min(moments)) if moments else self._decided_at
