"""The ledger: record acts, answer for a person, freeze snapshots, hand out proofs. A thin shell over store and snapshot."""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from ledger import admission, cursor, files, person, receipts, times, together
from ledger.admission import Keys
from ledger.consent import ALL_PURPOSES, Event, Purpose
from ledger.cursor import EventPage
from ledger.errors import InvalidEvent, UsageError
from ledger.log.checkpoint import Checkpoint
from ledger.log.keys import PrivateKey
from ledger.log.trust import Trust
from ledger.person import Recorded
from ledger.store import database, erasure
from ledger.store.append import Appended, Transaction, append, check_not_moved, told_that_it_was_recorded
from ledger.store.append import create as create_log
from ledger.store.documents import check_no_wider, check_purpose, event_document, purpose_document
from ledger.store.erasure import Erased
from ledger.store.folder import Folder, Passphrase, find
from ledger.store.history import History

if TYPE_CHECKING:  # Some load pyarrow, numpy and DuckDB, which recording an act does not need: half a second.
    from ledger.links import Links
    from ledger.snapshot import Snapshot
    from ledger.status import Status
    from ledger.store.fsck import FsckReport
    from ledger.store.imports import ImportReport
    from ledger.store.mapping import ImportColumns

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}")


def create(path: str | Path, *, origin: str | None = None, database: str | None = None) -> Ledger:
    """A new ledger: keys, an empty signed log, and the acts that admit its keys."""
    folder = Folder.create(Path(path), origin, database)
    book = Ledger(folder)
    book._create()
    return book


def open_ledger(path: str | Path | None = None, *, passphrase: Passphrase | None = None, finish: bool = True) -> Ledger:
    """The ledger in a folder; None: $CONSENT_LEDGER, else ./consent-ledger.

    passphrase: of its private keys where they have one, or a function that is asked for it, with the key's path, when
    something is to be signed. finish: go on with an erasure that was interrupted, which writes.
    Raises IntegrityError for one that was rolled back.
    """
    book = Ledger(Folder.open(find(path), passphrase))
    book.checkpoint()
    if finish:
        erasure.finish(book._engine, book.folder)
    return book


def fsck(path: str | Path | None = None, *, on_progress: Callable[[int, int], None] | None = None) -> FsckReport:
    """Check a ledger whole. on_progress: entries checked, entries in all. Raises IntegrityError for the first thing wrong."""
    from ledger.store import fsck as checking

    folder = Folder.open(find(path))
    return checking.fsck(database.connect(folder.database), folder, on_progress)


def reapply(journal: str | Path, path: str | Path | None = None, *, passphrase: Passphrase | None = None) -> Sequence[Erased]:
    """Erase anew whom an order journal names, after a backup of a ledger was put back: where the database lacks nothing but
    erasures, that mends it. path, passphrase: as `open_ledger` takes them. Raises IntegrityError where more was lost."""
    folder = Folder.open(find(path), passphrase)
    return erasure.reapply(database.connect(folder.database), folder, Path(journal))


class Ledger:
    """One ledger. Reads are one transaction each; every write is signed before it returns."""

    def __init__(self, folder: Folder, recorded_by: str | None = None) -> None:
        self.folder, self._recorded_by = folder, recorded_by
        self._engine = database.connect(folder.database, keep=True)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        database.close(self._engine)

    def acting_for(self, recorded_by: str) -> Ledger:
        """The same ledger for someone else, as whose its acts are marked: `api:crm`. Otherwise it is the system's user."""
        return Ledger(self.folder, recorded_by)

    @cached_property
    def _by(self) -> str:
        return self._recorded_by or f"user:{getpass.getuser()}"

    @property
    def snapshots(self) -> Path:
        """Where those are that were frozen without naming a file."""
        return self.folder.path / "snapshots"

    @property
    def origin(self) -> str:
        return self.folder.origin

    @property
    def trust(self) -> Trust:
        return self.folder.trust()

    def trust_text(self) -> str:
        return self.folder.trust_text()

    def run_key(self) -> PrivateKey:
        """The key that signs statements. Raises ConsentLedgerError for one that was ended, or never admitted."""
        key = self.folder.run_key()
        self.read(admission.require_standing, key.public, self.folder.path / "run.key")
        return key

    @property
    def keys(self) -> Keys:
        """The run keys whose statements are logged."""
        return Keys(self.folder, self.append, self.read, self._by)

    @property
    def links(self) -> Links:
        """Links by which people say no with one click."""
        from ledger.links import Links

        return Links(self.folder, self.append, self.read, self._by)

    def _create(self) -> None:
        create_log(self._engine, self.folder)
        lines = [("log", v.vkey) for v in self.trust.log] + [("run", v.vkey) for v in self.trust.run]

        def plan(tx: Transaction) -> None:
            for role, vkey in lines:
                tx.act("key_added", self._by, role=role, vkey=vkey)

        self.append(plan)

    def append(self, plan: Callable[[Transaction], None]) -> Appended:
        """Run a plan in one transaction, and sign what it added. Raises as `store.append` does."""
        return append(self._engine, self.folder, plan)

    def read(self, work: Callable[..., Any], *arguments: Any, as_it_stands: bool = False) -> Any:
        """as_it_stands: it tells what holds now. A ledger that was moved cannot: a no may have been recorded where it went."""
        with database.reading(self._engine) as connection:
            database.check_revision(connection)
            if as_it_stands:
                check_not_moved(connection, self.folder)
            return work(History(connection, self.origin, self.folder.log_trust()), *arguments)

    def _anchored(self, work: Callable[[History, str, Checkpoint], Any], *, as_it_stands: bool = False) -> Any:
        """Like _read, with the head after checking that it extends every anchor."""
        anchors = self.folder.read_anchors()
        return self.read(lambda history: work(history, *history.check_anchors(anchors)), as_it_stands=as_it_stands)

    def checkpoint(self) -> str:
        """The signed note of the head, which was checked to extend every anchor. Raises IntegrityError."""
        note: str = self._anchored(lambda history, note, head: note)
        return note

    def check(self, note: str) -> None:
        """That a checkpoint from elsewhere is of this log, continued. Raises IntegrityError."""
        self.read(lambda history: history.check_extends(note, history.head()[1], "the checkpoint at hand"))

    # Purposes and notices

    def purposes(self) -> list[Purpose]:
        """Every version declared, by token."""
        declared = self.read(lambda history: history.purposes())
        return [purpose for token in sorted(declared) for _, purpose in declared[token]]

    def declare_purpose(self, token: str, *, compatible: bool = False, **fields: Any) -> Purpose:
        """Declare a purpose, or its next version. compatible: yeses to the version before (and to those that it accepts) count;
        it may use no category that those did not.

        fields: those of `Purpose`: title, description, categories, recipients, controller, contact, retention,
        withdraw_url, basis.
        """
        if not _TOKEN.fullmatch(token):
            raise UsageError(f"{token!r:.120} is no token", hint="letters, digits and . _ : - , as in train-ai")
        declared: list[Purpose] = []

        def plan(tx: Transaction) -> None:
            versions = tx.declared.get(token, [])
            accepts = versions[-1][1].accepts if versions and compatible else ()
            if texts := [name for name in ("categories", "recipients") if isinstance(fields.get(name), str)]:
                raise UsageError(f"{texts[0]} is a list of texts, not one text")
            try:
                purpose = Purpose(token=token, version=len(versions) + 1, accepts=accepts, **fields)
            except TypeError as error:
                raise UsageError(f"a purpose has no such field: {error}") from error
            check_purpose(purpose)
            for _, older in versions:
                if older.version in purpose.accepts:
                    check_no_wider(purpose, older)
            tx.act("purpose_declared", self._by, **purpose_document(purpose))
            declared.append(purpose)

        self.append(plan)
        return declared[0]

    def add_notice(self, text: bytes, *, notice_id: str, language: str) -> str:
        """Keep a notice's text; its reference `ID@VERSION/LANGUAGE`."""
        if not _TOKEN.fullmatch(notice_id) or not _LANGUAGE.fullmatch(language):
            raise UsageError("a notice has an id of letters, digits and . _ : - , and a language as in en or de-AT")
        if not text:
            raise UsageError("the notice is empty")
        digest = sha256(text).hexdigest()
        reference: list[str] = []

        def plan(tx: Transaction) -> None:
            version = 1 + sum(act["notice_id"] == notice_id and act["language"] == language for act in tx.notices)
            tx.act("notice_declared", self._by, notice_id=notice_id, version=version, language=language, sha256=digest)
            tx.keep_text(digest, text)
            reference.append(f"{notice_id}@{version}/{language}")

        self.append(plan)
        return reference[0]

    # Acts

    def record(self, event: Event) -> Recorded:
        """Record one act. Raises InvalidEvent; nothing is recorded then."""
        return together.record(self._engine, self.folder, event, self._by)

    def record_all(self, events: Iterable[Event]) -> Appended:
        """Record many acts in one transaction: all of them, or none. Raises InvalidEvent for the first that is none."""

        def plan(tx: Transaction) -> None:
            for number, outcome in enumerate(tx.events(events, self._by)):
                if isinstance(outcome, InvalidEvent):
                    raise InvalidEvent(f"event {number}: {outcome}", hint=outcome.hint)

        return self.append(plan)

    def withdraw(
        self,
        subject_id: str,
        *,
        purposes: Sequence[str] = (),
        content_id: str | None = None,
        category: str | None = None,
        channel: str | None = None,
    ) -> Recorded:
        """A no, at once; all purposes unless told otherwise.

        Said again it is recorded again: a yes given in between may arrive late, and would answer the first.
        """
        event = Event(
            state="withdrawn",
            subject_id=subject_id,
            purposes=tuple(purposes) or (ALL_PURPOSES,),
            content_id=content_id,
            category=category,
            channel=channel,
        )
        # Dated by the log's clock: by the machine's, a yes that came before could look later.
        return together.record(self._engine, self.folder, event, self._by, now=True)

    def import_file(
        self,
        file: str | Path | IO[bytes],
        *,
        source: str | None = None,
        form: str | None = None,
        columns: ImportColumns | None = None,
        rejects: str | Path | None = None,
        dry_run: bool = False,
        max_reversals: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> ImportReport:
        """Record every act of a CSV, NDJSON or Parquet file, or none; with `rejects`, bad lines go to that file.

        columns: what those of another table mean. dry_run: check everything and record nothing. Raises ImportRejected.
        """
        from ledger.store.imports import import_file

        return import_file(
            self._engine,
            self.folder,
            file,
            source=source,
            form=form,
            columns=columns,
            rejects=rejects,
            dry_run=dry_run,
            max_reversals=max_reversals,
            on_progress=on_progress,
        )

    def erasable(self, subject_id: str) -> int:
        """How many events `erase` would take. Raises UsageError for a person whom the ledger does not know."""
        return erasure.count(self._engine, self.folder, subject_id)

    def erase(self, subject_id: str, *, basis: str | None = None) -> Erased:
        """Erase a person's events for good; the log keeps that they were there, and whose they were only for who holds tag.key.

        basis: why, as the log keeps it. What cannot be reached is in the answer. Raises UsageError for an unknown person.
        """
        return erasure.erase(self._engine, self.folder, subject_id, basis, self._by)

    # Answers

    def events(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """(position, event) in log order, of the log as it is when the first is asked for, without its first `after` entries.

        Read in bounded memory. Raises UsageError where the log has not as many entries.
        """
        return ((position, event) for position, event in cursor.entries(self.read, after) if event is not None)

    def page(self, after: int = 0, *, limit: int = 1000, expiring: timedelta | None = None) -> EventPage:
        """Up to `limit` events in log order without the log's first `after` entries, and the `after` of the next page.

        expiring: only yeses that are in force now and end within this span. Raises UsageError as `events` does.
        """
        return cursor.page(partial(self.read, as_it_stands=expiring is not None), self.origin, after, limit, expiring)

    def events_of(self, subject_ids: Iterable[str], *, checkpoint: str | None = None) -> list[tuple[int, Event]]:
        """(position, event) of these subjects in log order; checkpoint: of this log, among whose entries alone."""

        def work(history: History) -> list[tuple[int, Event]]:
            size = None
            if checkpoint is not None:
                history.check_extends(checkpoint, history.head()[1], "the checkpoint at hand")
                size = history.open(checkpoint).size
            found = {position: event for subject_id in set(subject_ids) for position, event in history.events_of(subject_id)}
            return sorted((position, event) for position, event in found.items() if size is None or position < size)

        events: list[tuple[int, Event]] = self.read(work)
        return events

    def status(self, *, on_progress: Callable[[int, int], None] | None = None) -> Status:
        """How the ledger stands, from one pass over the log. on_progress: entries read, entries in all. Raises IntegrityError."""
        from ledger import status

        standing: Status = self.read(status.read, self.folder.read_anchors(), on_progress, as_it_stands=True)
        return standing

    def show(self, subject_id: str, *, content_id: str | None = None) -> dict[str, Any]:
        """A person's acts and the decisions that now hold (schemas/show.json)."""

        def work(history: History) -> dict[str, Any]:
            events = history.events_of(subject_id)
            return {
                "subject_id": subject_id,
                "events": [
                    {**event_document(e), "position": position, "checkpoint_size": history.covering(position)[0]}
                    for position, e in events
                ],
                "decisions": person.decisions(history, subject_id, [e for _, e in events], content_id),
            }

        document: dict[str, Any] = self.read(work, as_it_stands=True)
        return document

    # Snapshots

    def look(self, purpose: str, *, tree_size: int | None = None, as_of: datetime | None = None) -> Snapshot:
        """The answers as they are now, or were, in memory and unlogged: for an audit, which writes nothing.

        Where nothing speaks against it an earlier snapshot is brought up to date; with tree_size every entry is read.
        """
        return self._compile(purpose, tree_size, as_of, None)

    def snapshot(
        self,
        purpose: str,
        *,
        output: str | Path | None = None,
        tree_size: int | None = None,
        as_of: datetime | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Snapshot:
        """Freeze the answers for a purpose into a file, logged, with its receipt beside it. Default: in the ledger's folder."""
        if output is not None and Path(output).is_dir():
            raise UsageError(f"{output} is a folder", hint="name the file to write, as in -o answers.parquet")
        return self.publish(self._compile(purpose, tree_size, as_of, on_progress), output=output)

    def publish(self, frozen: Snapshot, *, output: str | Path | None = None) -> Snapshot:
        """Log a snapshot that was looked at, and write its file and that act's receipt. Default: in the ledger's folder.

        Raises IntegrityError for one of another log.
        """
        from ledger import carried, committing, compiling, snapshot, snapshots

        self.check(frozen.header.checkpoint)
        self.folder.log_key()  # before anything is made: it may be missing, or its passphrase wrong
        subjects = committing.act_fields(frozen, self.folder.tag_key())
        data = snapshot.file_of(frozen.header, frozen.rows())
        frozen = replace(frozen, file_sha256=sha256(data).hexdigest())
        named = self.snapshots / snapshots.name(frozen.purpose, frozen.sha256)
        path = named if output is None else Path(output)
        files.make_folder(path.parent)
        size = self.read(lambda history: history.open(frozen.header.checkpoint).size)
        act = {
            "purpose": frozen.purpose,
            "snapshot_sha256": frozen.sha256,
            "file_sha256": frozen.file_sha256,
            "tree_size": size,
            "as_of": times.text(frozen.header.as_of),
            **subjects,
        }
        check = partial(self.read, compiling.require_erasures, size, frozen.header.erasures)
        check()
        receipt = self._logged(lambda tx: tx.act("snapshot_compiled", self._by, **act))
        snapshots.put(path, data, receipt, sweep=output is None, check=check)
        frozen = replace(frozen, path=path, receipt=receipt)
        carried.keep(self.snapshots, self.folder.tag_key(), frozen, check)
        return replace(frozen, salts=None)

    def _compile(
        self, purpose: str, tree_size: int | None, as_of: datetime | None, on_progress: Callable[[int, int], None] | None
    ) -> Snapshot:
        from ledger import compiling

        work = partial(compiling.compile_at, self.folder, purpose, tree_size, as_of, on_progress)
        frozen: Snapshot = self._anchored(work, as_it_stands=True)
        return frozen

    # Proofs

    def receipt(self, event_id: str, *, cosigned: bool = False) -> bytes:
        """An event with the opening of its commitment, its inclusion proof and checkpoint: verifies alone.

        cosigned: by the checkpoint that witnesses have cosigned, so that it verifies alone where they are demanded.
        """
        from ledger import witnessing

        covering = partial(witnessing.covering, self.folder) if cosigned else lambda position: None

        def work(history: History) -> bytes:
            opened = history.event(event_id)
            if opened is None:
                raise UsageError(
                    f"no event has the id {event_id!r:.120}", hint="`consent show SUBJECT` lists a person's events with their ids"
                )
            return receipts.of_event(history, opened, covering(opened.position))

        receipt: bytes = self.read(work)
        return receipt

    def admit(self, envelope: bytes) -> bytes:
        """Log a statement of a run or an audit that an admitted run key has signed: the receipt of that act, the second line
        of its file. One that is in the log already is not logged again.

        Raises VerificationError for anything else, and where this log did not compile the statement's snapshot.
        """

        def plan(tx: Transaction) -> int:
            if (position := admission.logged_at(tx.history, envelope)) is not None:
                return position
            fields = admission.admissible(tx.history, self.folder, envelope, tx.recorded_at)
            return tx.act("statement_made", self._by, **fields)

        return self._logged(plan)

    def logged(self, envelope: bytes) -> bool:
        """Whether a statement is in the log."""
        return self.read(admission.logged_at, envelope) is not None

    def _logged(self, plan: Callable[[Transaction], int]) -> bytes:
        """The receipt of the act at the position that a plan returns."""
        positions: list[int] = []
        self.append(lambda tx: positions.append(plan(tx)))

        def work(history: History) -> bytes:
            return receipts.of_act(history, history.at(positions[0]))

        with told_that_it_was_recorded():
            receipt: bytes = self.read(work)
        return receipt

    def fsck(self, *, on_progress: Callable[[int, int], None] | None = None) -> FsckReport:
        """Check the ledger whole. Raises IntegrityError for the first thing that is wrong."""
        from ledger.store import fsck as checking

        return checking.fsck(self._engine, self.folder, on_progress)
