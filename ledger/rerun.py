"""A run again, at the cost of what changed: shards of whose people none is answered otherwise than before stay as they are, and
neither they nor their inputs are read.

That a shard may stay rests on its line, signed by the run key: on what decided it but the answers, on input and output being
the files that they were (size, inode, times), and on the digests of two files of the index: who is in the shard, and how all
were answered. Where any of it is missing or another, the shard is done again. See `ledger.shards.subject_index`.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ledger import times
from ledger.log import canonical, prefix_tree
from ledger.log.prefix_tree import SEED_BYTES
from ledger.objects import Place, named
from ledger.shards import held, subtrees
from ledger.shards.answers import Answers, answers_at
from ledger.shards.columns import Columns
from ledger.shards.held import Hashes, Held, Ints, meet, pack_counts, unpack_counts
from ledger.shards.index_folder import ANSWERS, KEPT, RUN, SUBJECTS, TREE, IndexFolder, identity
from ledger.shards.inputs import Input
from ledger.shards.journal import Journal, Line
from ledger.shards.subject_index import Hasher, Known, ShardSubjects, unpack
from ledger.shards.subjects import KeptSubjects
from ledger.shards.subtrees import Subtrees
from ledger.snapshot import RULE_VERSION, Snapshot


@dataclass(frozen=True)
class Spared:
    """lines: of the shards that stay, by name, as they are to stand from now on. codes, rows: whose their kept rows are, and
    how many."""

    lines: Mapping[str, Line] = field(default_factory=dict)
    codes: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    rows: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def rows_in(self) -> int:
        return sum(line["result"]["rows_in"] for line in self.lines.values())

    def holds(self, sources: Iterable[Input], output: Path) -> bool:
        """Whether the files are still the same."""
        return all(_is_there(self.lines[source.name], source, output) for source in sources if source.name in self.lines)


def deciding_by(
    snapshot: Snapshot, columns: Columns, answers: Answers, dropped: Sequence[str], versions: Mapping[str, str]
) -> dict[str, str]:
    """What decides a shard, but for its own bytes: `deciding` of its line."""
    categories = {"listed": sorted(snapshot.header.categories)} if snapshot.header.categories else {}
    deciding = {
        "answers_sha256": answers.digest,
        "purpose": snapshot.purpose,
        "origin": snapshot.header.origin,
        "categories": canonical.encode(categories).decode(),
        "columns": canonical.encode(columns.document()).decode(),
        "code": canonical.encode(versions).decode(),
        "rule_version": RULE_VERSION,
    }
    if dropped:
        deciding["dropped_metadata"] = canonical.encode({"keys": list(dropped)}).decode()
    return deciding


class Indexed:
    """The index beside an output folder, and today's answers under its secret. run: what the last whole run has left, once it
    was asked for."""

    def __init__(self, folder: IndexFolder, answers: Answers) -> None:
        self.folder, self.answers = folder, answers
        self.hasher = Hasher(folder.salt)
        self.known = Known.of(answers, self.hasher)
        self._answers = self.known.packed()
        self._answers_digest = sha256(self._answers).hexdigest()
        self.run: dict[str, Any] = {}
        self._tree = b""
        self._changed: dict[str, Hashes | None] = {}
        self._earlier: dict[str, tuple[Hashes, Hashes] | None] = {}
        self._begun, self._lock = False, threading.Lock()

    def begin(self) -> None:
        """Before the first line speaks of these answers. Where there is no index yet not before that: where nothing is done,
        nothing is left."""
        with self._lock:
            if not self._begun:
                self.folder.make()
                self.folder.write(ANSWERS, self._answers, sync=True)
                self._begun = True

    def all_lines(self, digest: str) -> dict[str, Line] | None:
        """For `Journal.lines`."""
        if (run := self.folder.read_run(digest)) is None:
            return None
        self.run = run
        lines: dict[str, Line] = run["lines"]
        return dict(lines)

    def spared(self, journal: Journal, sources: Iterable[Input], output: Path, deciding: Mapping[str, str]) -> Spared:
        """Which shards stay. deciding: as in a line, but for the input's digest."""
        lines = journal.lines(self.all_lines)
        if not self.known.is_exact:
            return Spared()
        stays = {
            source.name: line
            for source in sources
            if (line := lines.get(source.name)) is not None and self._stays(line, source, output, deciding)
        }
        keys, rows = self._kept(stays)
        some = np.nonzero(rows)[0]
        # Most often they are the same people, in the same order.
        found = some if np.array_equal(keys, self.known.keys) else np.searchsorted(self.known.keys, keys[some])
        keys, rows = keys[some], rows[some]
        if len(keys) and (found[-1] == len(self.known.keys) or (self.known.keys[found] != keys).any() or rows.min() < 0):
            return Spared()  # whoever has kept rows is known: such an index is none
        anew = {name: self._by_new_answers(line, deciding["answers_sha256"]) for name, line in stays.items()}
        return Spared(anew, self.known.order[found], rows)

    def _stays(self, line: Line, source: Input, output: Path, deciding: Mapping[str, str]) -> bool:
        index = line.get("index")
        if index is None or index["salt"] != self.folder.salt_sha256:
            return False
        decided, input_sha256 = line["deciding"], line["result"]["input_sha256"]
        if decided != {**deciding, "answers_sha256": decided.get("answers_sha256"), "input_sha256": input_sha256}:
            return False
        if not _is_there(line, source, output):
            return False
        if (changed := self.changed_since(index["answers"])) is None:
            return False
        if not len(changed):
            return True
        return self.has_any(index["subjects"], changed) is False

    def changed_since(self, digest: str) -> Hashes | None:
        """The keys of those who are answered otherwise now; None where it is unknown how they were."""
        if digest not in self._changed:
            earlier = self._answers_of(digest)
            self._changed[digest] = None if earlier is None else self.known.changed(*earlier)
        return self._changed[digest]

    def subjects(self, digest: str) -> Held | None:
        """Who is in a shard, and with how many kept rows."""
        return self.folder.read_by(SUBJECTS, digest, held.read)

    def has_any(self, digest: str, changed: Hashes) -> bool | None:
        """Whether any of these is in a shard; None where that cannot be told."""
        return self.folder.read_by(SUBJECTS, digest, lambda file, digest: held.has_any(file, digest, changed))

    def _answers_of(self, digest: str) -> tuple[Hashes, Hashes] | None:
        """Keys and answers as they were."""
        if digest == self._answers_digest:
            return self.known.keys, self.known.answers
        if digest not in self._earlier:
            data = self.folder.read(ANSWERS, digest)
            self._earlier = {digest: None if data is None else unpack(data)}  # nearly all lines speak of the same
        return self._earlier[digest]

    def _kept(self, stays: dict[str, Line]) -> tuple[Hashes, Ints]:
        """Of the shards that stay, by key: kept rows. One whose counts cannot be read stays no longer.

        From what the last whole run counted in all, less the shards that do not stay as they were then.
        """
        now = {name: line["index"]["subjects"] for name, line in stays.items()}
        then = {name: line.get("index", {}).get("subjects", "") for name, line in self.run.get("lines", {}).items()}
        keys, rows = self._kept_then() if len(now) * 2 > len(then) else (None, None)
        if keys is not None and rows is not None:
            for name, digest in then.items():
                if now.get(name) != digest and ((gone := self.subjects(digest)) is None or not _add(keys, rows, gone, -1)):
                    keys = None
                    break
        if keys is None or rows is None:
            keys, then = self.known.keys, {}
            rows = np.zeros(len(keys), np.int64)
        for name, digest in now.items():
            if then.get(name) != digest and ((more := self.subjects(digest)) is None or not _add(keys, rows, more, 1)):
                del stays[name]
        return keys, rows

    def _kept_then(self) -> tuple[Hashes, Ints] | tuple[None, None]:
        """Whose kept rows the last whole run counted, and how many."""
        run = self.run
        if run.get("salt") != self.folder.salt_sha256:
            return None, None
        answers, data = self._answers_of(run["answers"]), self.folder.read(KEPT, run["kept"])
        kept = None if answers is None or data is None else unpack_counts(data, len(answers[0]))
        return (None, None) if answers is None or kept is None else (answers[0], kept)

    def _by_new_answers(self, line: Line, answers_sha256: str) -> Line:
        deciding = {**line["deciding"], "answers_sha256": answers_sha256}
        return {**line, "deciding": deciding, "index": {**line["index"], "answers": self._answers_digest}}

    def commit(self, people: KeptSubjects) -> dict[str, Any]:
        """`KeptSubjects.commit`, from the tree of the last whole run where that is there: with its seed, at the cost of whose
        kept rows are now more or fewer."""
        people.require_known()
        rows = people.rows[self.known.order]
        if (again := self._commit_again(rows)) is not None:
            return again
        seed, keep = secrets.token_bytes(SEED_BYTES), Subtrees()
        said = people.commit(seed, keep=keep)
        if len(keep.place):
            of_code = np.zeros(len(rows), np.uint16)
            of_code[np.nonzero(people.rows)[0]] = subtrees.bucket(keep.place)
            self._tree = subtrees.pack(seed, keep.hashes, of_code[self.known.order])
        return said

    def _commit_again(self, rows: Ints) -> dict[str, Any] | None:
        """rows: by key. None where there is no such tree, or most of it is another now."""
        keys, then = self._kept_then()
        data = None if keys is None else self.folder.read(TREE, self.run.get("tree", ""))
        tree = None if data is None or keys is None else subtrees.unpack(data, len(keys))
        if keys is None or then is None or tree is None or not self.known.is_exact:
            return None
        seed, hashes, buckets_then = tree
        was, buckets, gone = then, buckets_then.copy(), np.zeros(len(keys), bool)
        if not np.array_equal(keys, self.known.keys):
            gone = (then > 0) & ~meet(self.known.keys, keys)
            at = np.minimum(np.searchsorted(keys, self.known.keys), max(0, len(keys) - 1))
            was = np.zeros(len(rows), np.int64)
            buckets = np.zeros(len(rows), np.uint16)
            if len(keys):
                both = keys[at] == self.known.keys
                was[both], buckets[both] = then[at[both]], buckets_then[at[both]]
        changed = was != rows
        come = np.nonzero(changed & (was == 0))[0]
        texts = self.answers.ids(self.known.order[come])
        places = [int.from_bytes(index[:8], "big") for index in _indexes(seed, texts)]
        buckets[come] = subtrees.bucket(np.array(places, np.uint64))
        touched = np.unique(np.concatenate([buckets[changed], buckets_then[gone]]))
        if not subtrees.few(touched):
            return None
        kept = rows > 0
        below = np.nonzero(kept & np.isin(buckets, touched, kind="table"))[0]
        pairs = dict[int, list[tuple[bytes, bytes]]]()
        of_rows = cache(lambda count: prefix_tree.value(b"", {"rows": count}))
        indexes = _indexes(seed, self.answers.ids(self.known.order[below]))
        for number, index, count in zip(buckets[below].tolist(), indexes, rows[below].tolist(), strict=True):
            pairs.setdefault(number, []).append((index, of_rows(count)))
        for number in touched.tolist():
            hashes[number] = np.frombuffer(subtrees.under(sorted(pairs.get(number, []))), np.uint8)
        self._tree = subtrees.pack(seed, hashes, buckets)
        top = subtrees.root(hashes, subtrees.counts(buckets[kept]))
        return {"root": top.hex(), "seed": seed.hex(), "count": int(kept.sum())}

    def shard(self) -> ShardSubjects:
        """To be told the subjects of a shard that is done."""
        return ShardSubjects(self.known, self.hasher)

    def entry(
        self, subjects: ShardSubjects, source: str | None, output: str | None, metadata: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """`index` for the line of a shard that is done; nothing for one whose output cannot be known again. source: None for an
        input that cannot be: the shard is done again by the next run."""
        if output is None or not self.known.is_exact:
            return {}
        self.begin()
        entry = {
            "salt": self.folder.salt_sha256,
            "subjects": self.folder.write(SUBJECTS, *subjects.held().packed()),
            "answers": self._answers_digest,
            "input": source or "",
            "output": output,
        }
        return {"index": {**entry, "metadata": list(metadata)} if metadata else entry}

    def end(self, journal: Journal, lines: Mapping[str, Line], rows: Ints, decided_at: datetime) -> None:
        """All of the run is done. lines: of all its shards. rows: kept ones, by the code of whose they are."""
        self.begin()
        kept = pack_counts(rows[self.known.order])
        run = {
            "salt": self.folder.salt_sha256,
            "answers": self._answers_digest,
            "kept": self.folder.write(KEPT, kept, sync=True),
            "decided_at": times.text(decided_at),
            "lines": lines,
        }
        if self._tree:
            run["tree"] = self.folder.write(TREE, self._tree, sync=True)
        digest = self.folder.write_run(run)
        self.folder.sync()
        journal.note({"all": digest})
        named = {f"{digest}.{RUN}", f"{run['answers']}.{ANSWERS}", f"{run['kept']}.{KEPT}"}
        named |= {f"{run['tree']}.{TREE}"} if self._tree else set()
        named |= {f"{line['index']['subjects']}.{SUBJECTS}" for line in lines.values() if "index" in line}
        self.folder.keep_only(named)


_begun: dict[tuple[Path, bytes, Answers], Future[Indexed]] = {}
"""What `begin` makes; it is the next run's, and no other's."""


def begin(snapshot: Snapshot, output: Place | None, *, decides: bool = True) -> Snapshot:
    """Have a thread make what hangs on the answers alone, as they stand now, while the rest of a command is made ready.

    output: of a run, which may have left its index there. decides: whether rows will be decided. Returns the snapshot.
    """
    if output is None and not decides:
        return snapshot
    answers, thread = answers_at(snapshot, times.now()), ThreadPoolExecutor(1)
    folder = IndexFolder.open(named(output)) if isinstance(output, Path) else None
    if folder is not None:
        _begun[folder.path, folder.salt, answers] = thread.submit(Indexed, folder, answers)
    if decides:
        thread.submit(lambda: answers.index)
    thread.shutdown(wait=False)
    if decides:
        _ = answers.digest
    return snapshot


def indexed_in(folder: IndexFolder, answers: Answers) -> Indexed:
    """What was begun of these, or else is made now."""
    begun = _begun.pop((folder.path, folder.salt, answers), None)
    return Indexed(folder, answers) if begun is None else begun.result()


def _indexes(seed: bytes, ids: Any) -> list[bytes]:
    return prefix_tree.indexes(seed, ids.cast(pa.large_binary()).to_pylist())


def _add(keys: Hashes, rows: Ints, more: Held, sign: int) -> bool:
    """Add a shard's kept rows to those by key. False, and nothing added, where one of its people is not among the keys."""
    some = more.rows != 0
    key = more.keys[some]
    at = np.searchsorted(keys, key)
    if len(at) and (at[-1] == len(keys) or (keys[at] != key).any()):
        return False
    rows[at] += sign * more.rows[some]
    return True


def _is_there(line: Line, source: Input, output: Path) -> bool:
    # As text: where there is no identity now, it is not what the line has.
    known = line["index"]["input"], line["index"]["output"]
    return known == (str(identity(source.path)), str(identity(f"{output}/{source.name}", follow=False)))
