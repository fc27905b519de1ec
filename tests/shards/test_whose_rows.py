"""What a person can be shown: whether rows of theirs are in a release, and what its snapshot said of them."""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import ledger
from ledger import ConsentFilter, Event, committing, folding, membership, times
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError, VerificationError
from ledger.log.prefix_tree import PrefixTree
from ledger.shards.columns import Columns
from ledger.snapshot import Snapshot
from ledger.statements.membership import open_membership
from ledger.statements.receipt import open_act_receipt
from tests.shards.world import World


@pytest.fixture
def release(world: World) -> Path:
    """Filtered as `consent filter --purpose` does it: looked at, then published."""
    shards = [world.shard("in/a.parquet", "yes", "no", "yes"), world.shard("in/b.parquet", "later", "stranger")]
    ConsentFilter(world.book.look("ai"), Columns(subject="s")).filter_shards(
        shards, world.root / "out", key=world.book.run_key(), publish=world.book.publish, admit=world.book.admit
    )
    return world.root / "out"


def statement(release: Path) -> Path:
    return release.with_name("out.intoto.jsonl")


@pytest.mark.parametrize(("subject", "rows"), [("yes", 2), ("later", 1), ("no", 0), ("stranger", 0), ("nobody ü", 0)])
def test_whether_rows_of_theirs_are_in_it(world: World, release: Path, subject: str, rows: int) -> None:
    for named in (release, str(release), statement(release)):
        data = membership.in_run(named, subject, world.book.trust)
        opened = open_membership(data, world.book.trust)
        assert data.endswith(b"\n") and data.count(b"\n") == 1
        assert (opened.subject_id, opened.said) == (subject, {"rows": rows} if rows else None)
        assert opened.act.act["statement_sha256"] == hashlib.sha256(statement(release).read_bytes().split(b"\n")[0]).hexdigest()


def test_what_the_snapshot_said(world: World, release: Path) -> None:
    world.yes("newcomer")
    world.book.withdraw("yes")  # later than the snapshot
    data = statement(release).read_bytes()
    said = {}
    for subject in ("yes", "no", "newcomer"):
        opened = open_membership(membership.in_snapshot(world.book, data, subject), world.book.trust)
        said[subject] = opened.said
        assert opened.act.act["act"] == "snapshot_compiled"
    assert said["newcomer"] is None and said["yes"] is not None and said["no"] is not None
    [row] = said["no"]["rows"]
    events = dict(world.book.events_of(["no"]))
    assert events[row["no_position"]].state == "withdrawn" and events[row["yes_position"]].state == "given"
    assert row["yes_basis"] == "assertion" and row["yes_accepted"] == 1 and row["no_state"] == "withdrawn"
    assert "no_at" not in said["yes"]["rows"][0]


MICROSECOND = datetime.resolution


def rows_by_hand(snapshot: Snapshot) -> dict[str, list[dict[str, Any]]]:
    """Of the file, by docs/formats.md."""
    assert snapshot.path is not None
    people: dict[str, list[dict[str, Any]]] = {}
    none = -(2**63)

    def moment(micros: int) -> str:
        return (datetime(1970, 1, 1, tzinfo=UTC) + micros * MICROSECOND).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    for row in pq.read_table(snapshot.path).to_pylist():
        said: dict[str, Any] = {"scope": ["everything", "category", "content"][row["scope"]]}
        if row["scope_id"]:
            said["scope_id"] = row["scope_id"]
        if row["no_position"] >= 0:
            said["no_state"] = ["refused", "withdrawn", "objected", "revoked"][row["no_state"]]
            said["no_position"] = row["no_position"]
        if row["yes_position"] >= 0:
            said["yes_position"], said["yes_accepted"] = row["yes_position"], int(row["yes_accepted"])
            said["yes_basis"] = ["assertion", "import", "evidence", "session"][row["yes_basis"]]
        said |= {
            name: moment(row[name]) for name in ("no_at", "yes_at", "yes_expires_at", "yes_content_since") if row[name] != none
        }
        people.setdefault(row["subject_id"], []).append(said)
    return people


def test_the_set_of_a_snapshot_is_that_of_the_format(world: World) -> None:
    world.yes("fine", content_id="p1", content_since=times.now())
    world.yes("fine", category="post", expires_at=datetime(2099, 1, 1, tzinfo=UTC))
    world.book.record(Event(state="objected", subject_id="fine", purposes=["*"], content_id="p0"))
    world.yes("other-purpose", "other")
    snapshot = world.freeze("ai", "fine")
    act = json.loads(snapshot.receipt or b"")["act"]
    seed, key = bytes.fromhex(act["subjects_seed"]), world.book.folder.tag_key()
    first: dict[str, bytes] = {}
    for opened in world.book.read(lambda history: list(history.opened(act["tree_size"]))):
        document = opened.document()
        if opened.is_event and any(purpose == "*" or purpose.startswith("ai@") for purpose in document["purposes"]):
            first.setdefault(document["subject_id"], opened.salt)
    people = rows_by_hand(snapshot)
    assert people.keys() == first.keys() and len(people["fine"]) == 3 and "other-purpose" not in people
    leaves = []
    for subject, rows in people.items():
        blind = hmac.digest(hmac.digest(key, b"secret\n" + first[subject], "sha256"), seed, "sha256")
        said = json.dumps({"rows": rows}, sort_keys=True, separators=(",", ":")).encode()
        leaves.append(
            (
                hashlib.sha256(b"consent-ledger/index/v1\n" + seed + subject.encode()).digest(),
                hashlib.sha256(b"consent-ledger/value/v1\n" + blind + said).digest(),
            )
        )
    assert PrefixTree(leaves).root().hex() == act["subjects_root"]


def test_no_salt_leaves_the_process(world: World, release: Path) -> None:
    looked = world.book.look("ai")
    assert looked.salts is not None and len(looked.salts) == 32 * 3
    salts = [looked.salts[at : at + 32] for at in range(0, 96, 32)]
    pickled = pickle.dumps(looked)
    assert not any(salt in pickled or repr(salt) in repr(looked) for salt in salts)
    published = world.book.publish(looked, output=world.root / "published.parquet")
    for path in (world.root / "published.parquet", world.root / "published.parquet.receipt", statement(release)):
        assert not any(salt in path.read_bytes() or salt.hex().encode() in path.read_bytes() for salt in salts)
    assert published.salts is None
    # Of another process, whose salts did not come along, the answers are logged without a set.
    bare = world.book.publish(pickle.loads(pickled), output=world.root / "bare.parquet")
    assert "subjects_root" not in open_act_receipt(bare.receipt or b"", world.book.trust).act


def test_other_shards_than_those_of_the_statement(world: World, release: Path) -> None:
    world.shard("out/a.parquet", "yes", "yes", "no")
    with pytest.raises(IntegrityError, match="not the set"):
        membership.in_run(release, "no", world.book.trust)


def test_a_statement_that_commits_to_nothing(world: World, release: Path) -> None:
    path = statement(release)
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    with pytest.raises(UsageError, match="not in the log"):
        membership.in_run(release, "yes", world.book.trust)


def test_consent_verify_takes_them(world: World, release: Path, consent: Callable[..., Any], tmp_path: Path) -> None:
    trust = tmp_path / "trust"
    trust.write_text(world.book.trust_text())
    for subject, words in (
        ("no", "'no' is not in the set of subjects of whose rows the run kept"),
        ("yes", "with 2 rows: committed by the operator, shards not checked"),
    ):
        (tmp_path / "m").write_bytes(membership.in_run(release, subject, world.book.trust))
        shown = consent("verify", "m", "--trust", trust)
        assert shown.code == 0 and words in shown.out
    (tmp_path / "m").write_bytes(membership.in_snapshot(world.book, statement(release).read_bytes(), "no"))
    shown = consent("verify", "m", "--trust", trust)
    assert shown.code == 0 and "said of 'no': about everything, no (withdrawn) of" in shown.out
    data = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(data.replace(b'"no_state":"withdrawn"', b'"no_state":"objected"'))
    assert consent("verify", "m", "--trust", trust).code == 4


def test_a_run_whose_key_was_ended_is_answered_for(world: World, release: Path) -> None:
    """Its statement is in the log all the same: what its people can be shown does not end with the key."""
    data, before = statement(release).read_bytes(), world.book.trust
    world.book.keys.end("run")
    with pytest.raises(VerificationError):
        membership.in_snapshot(world.book, data, "yes")
    found = ledger.export_subject(world.book, "yes", world.root / "x.zip", runs=[release])
    (run,) = found.runs
    assert (run.rows, len(run.known or []), run.missing) == (2, 1, [])
    assert open_membership(run.in_snapshot or b"", before).in_set


def test_once_somebody_was_erased_a_snapshot_still_answers_for_the_others(world: World, release: Path) -> None:
    data = statement(release).read_bytes()
    before = {subject: membership.in_snapshot(world.book, data, subject) for subject in ("yes", "later", "nobody")}
    for _ in range(2):  # erased again there is nothing of them left to keep
        world.book.erase("later")
    for subject in ("yes", "nobody"):
        assert membership.in_snapshot(world.book, data, subject) == before[subject]
    with pytest.raises(ConsentLedgerError, match="this person was erased since"):
        membership.in_snapshot(world.book, data, "later")
    assert open_membership(before["later"], world.book.trust).in_set
    assert open_membership(membership.in_run(release, "later", world.book.trust), world.book.trust).in_set


def test_a_run_that_an_older_snapshot_decided_is_out_of_an_erasure_s_reach(world: World) -> None:
    shard = world.shard("in/a.parquet", "yes", "later")
    first = world.book.erase("yes")
    world.run(shard)  # by the copy that was taken away before
    assert world.read("out/a.parquet") == ["yes", "later"]
    world.run(shard, output="fresh", snapshot=world.freeze("ai", "fresh"))
    again = world.book.erase("yes")
    runs = [[one for one in erased.unreached if one.kind == "statement"] for erased in (first, again)]
    assert (again.already, len(runs[0])) == (True, 0)
    (named,) = runs[1]
    line = (world.root / "out.intoto.jsonl").read_bytes().split(b"\n")[0]
    assert named.position > first.position and named.sha256 == hashlib.sha256(line).hexdigest()


@pytest.mark.parametrize("together", [3, 65_536])
def test_the_set_of_every_snapshot_outlives_an_erasure(world: World, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the person had said by then; and many at once: a query for each is a minute for a thousand."""
    world.book.snapshot("other")
    said = [{"content_id": "b"}, {"expires_at": datetime(2099, 1, 1, tzinfo=UTC)}, {"category": "post"}, {"content_id": "a"}]
    for fields in said:
        world.yes("later", **fields)
        world.book.snapshot("ai")
        world.book.withdraw("later", content_id="b")
        world.book.snapshot("ai")
    monkeypatch.setattr(committing, "_BATCH", together)
    folded: list[object] = []
    fold = folding.latest_per_scope
    monkeypatch.setattr(folding, "latest_per_scope", lambda acts: folded.append(acts) or fold(acts))
    world.book.erase("later")
    assert together < 65_536 or len(folded) == 1
    acts = world.book.read(lambda history: history.acts("snapshot_compiled"))
    assert len(acts) == 10
    tag_key = world.book.folder.tag_key()
    for position, act in acts:
        frozen = world.book.look(act["purpose"].partition("@")[0], tree_size=act["tree_size"], as_of=times.parse(act["as_of"]))
        gone = world.book.read(lambda history, position=position: history.leaves(position))
        tree = committing.subjects_tree(frozen, tag_key, bytes.fromhex(act["subjects_seed"]), gone)
        assert (len(gone), tree.root().hex()) == (1, act["subjects_root"])


def test_a_leaf_that_was_changed_proves_nothing(world: World, release: Path) -> None:
    data = statement(release).read_bytes()
    world.book.erase("later")
    for change in ("UPDATE leaves SET value = leaf_index", "DELETE FROM leaves"):
        with closing(sqlite3.connect(world.book.folder.path / "ledger.db")) as database, database:
            database.execute(change)
        with pytest.raises(IntegrityError, match="do not make the set"):
            membership.in_snapshot(world.book, data, "yes")
