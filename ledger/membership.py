"""Memberships, made: whether one subject's rows are in a run's output, by the shards; what a snapshot said of it, by the ledger.

    in_run(run, subject_id, trust) -> bytes            run: the folder of shards or its statement
    in_snapshot(book, statement, subject_id) -> bytes   statement: the file's bytes, both lines; of the snapshot that decided it

Both give the document's one line, ended by a newline, as a file has it. Neither is made where the set is not the one that
was committed to.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ledger import committing, objects, times
from ledger.consent import split_purpose
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError
from ledger.log import prefix_tree
from ledger.log.prefix_tree import PrefixTree
from ledger.log.trust import Trust
from ledger.objects import Place
from ledger.selected import positions_of
from ledger.shards.columns import Columns
from ledger.shards.rewrite import ShardFile
from ledger.shards.subjects import SubjectText
from ledger.statements.membership import membership
from ledger.statements.selection_statement import SelectionRecord
from ledger.statements.verify import STATEMENT_SUFFIX, Record, open_statement, read_statement, statement_path

if TYPE_CHECKING:
    from ledger.book import Ledger


def in_run(run: Path | str, subject_id: str, trust: Trust) -> bytes:
    """Whether a subject has rows in the output of a run, or in the shards of an audit, that stand beside the statement.

    Raises UsageError for a statement that commits to no set or is not logged, IntegrityError where the shards are others.
    """
    statement, folder = places(objects.place(run))
    data = read_statement(statement)
    opened = open_statement(data, trust, allow_unlogged=True)
    if isinstance(opened.record, SelectionRecord):
        raise UsageError(
            f"{statement} is of a selection, which has no shards of its own",
            hint="memberships are made of runs and audits; `consent verify SELECTION --shards DIR` builds its set of subjects",
        )
    if opened.record.subjects is None or opened.logged is None:
        raise UsageError(
            f"{statement} {'commits to no set of subjects' if opened.record.subjects is None else 'is not in the log'}",
            hint="`consent attest` makes a statement that does; `consent admit` logs one",
        )
    counts = count(opened.record, folder)
    tree = require_set(opened.record, counts)
    index = prefix_tree.index(bytes.fromhex(opened.record.subjects["seed"]), subject_id)
    rows = counts.rows_of(subject_id)
    receipt = data.split(b"\n")[1]
    return membership(subject_id, receipt, tree.prove(index), said={"rows": rows} if rows else None) + b"\n"


def places(run: Place) -> tuple[Place, Place]:
    """The statement, and the folder of its shards, of which one is named."""
    if run.name.endswith(STATEMENT_SUFFIX):
        return run, run.with_name(run.name.removesuffix(STATEMENT_SUFFIX))
    return statement_path(run), run


def count(record: Record, folder: Place, selection: Place | None = None) -> SubjectText:
    """The subjects of the shards that a statement names, by their text. selection: the folder of one, whose rows alone count."""
    counts = SubjectText(Columns(**record.columns))
    if isinstance(record, SelectionRecord):
        assert selection is not None
        for stated in record.shards:
            positions = positions_of(selection, stated)
            with ShardFile(folder / stated.name) as shard:
                counts.add(shard, positions.mask)
        return counts
    for name in record.digests:
        with ShardFile(folder / name) as shard:
            counts.add(shard)
    return counts


def require_set(record: Record, counts: SubjectText) -> PrefixTree:
    """The tree of a statement's subjects, which has the root that it says. Raises IntegrityError."""
    assert record.subjects is not None
    tree = counts.tree(bytes.fromhex(record.subjects["seed"]))
    if (tree.root().hex(), len(tree)) != (record.subjects["root"], record.subjects["count"]):
        raise IntegrityError(
            "the subjects of the shards are not the set that the statement commits to",
            hint="the shards were changed, or whoever signed the statement committed to another set",
        )
    return tree


def in_snapshot(book: Ledger, statement: bytes, subject_id: str, trust: Trust | None = None) -> bytes:
    """What the snapshot that decided a statement's rows said of a subject, by the ledger that compiled it.

    trust: whose statement it may be; the ledger's, if None. It has no key that was ended since.
    Raises UsageError for a snapshot that commits to no set, ConsentLedgerError where somebody of it was erased since: the set can
    then be built by nobody any more. IntegrityError where the log's entries are not those that it was compiled from.
    """
    opened = open_statement(statement, trust or book.trust, allow_unlogged=True)
    act = opened.snapshot.act
    if "subjects_root" not in act:
        raise UsageError("the snapshot commits to no set of subjects", hint="take a fresh one with `consent snapshot`")
    tag_key, seed = book.folder.tag_key(), bytes.fromhex(act["subjects_seed"])
    token, _ = split_purpose(act["purpose"])
    frozen = book.look(token, tree_size=act["tree_size"], as_of=times.parse(act["as_of"]))
    erased = book.read(lambda history: history.leaves(opened.snapshot.position))
    tree = committing.subjects_tree(frozen, tag_key, seed, erased)
    if tree.root().hex() != act["subjects_root"]:
        raise IntegrityError("the log's entries do not make the set that the snapshot commits to", hint="run `consent fsck`")
    index = prefix_tree.index(seed, subject_id)
    if index in dict(erased):
        raise ConsentLedgerError(
            "this person was erased since: what the snapshot said of them can be proven no more",
            hint="a membership that was made before still verifies",
        )
    proof = tree.prove(index)
    blind, said = committing.opened(frozen, tag_key, seed, subject_id) or (b"", None)
    return membership(subject_id, opened.record.snapshot_receipt.encode(), proof, said=said, blind=blind) + b"\n"
