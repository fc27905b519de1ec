"""A snapshot's subjects -> the set that its act commits to: of each what the snapshot says, blinded by a secret that goes with
the person's events (docs/formats.md, "Sets of subjects")."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger import folding, sayings, times
from ledger.consent import NO, Purpose, split_purpose
from ledger.hashing import Hashers
from ledger.log import prefix_root, prefix_tree
from ledger.log.entry import SALT_BYTES, SECRET, hmac_blocks, subject_secret
from ledger.log.prefix_root import Bytes
from ledger.log.prefix_tree import EMPTY, HASH_BYTES, SEED_BYTES, PrefixTree
from ledger.snapshot import NONE, Snapshot, text_bytes
from ledger.statements.decided import BASES
from ledger.statements.membership import SCOPES

_BATCH = 65_536
"""Rows that are held at once."""
_SCOPES = tuple(SCOPES)
_BLOCK, _INNER, _OUTER = 64, np.uint8(0x36), np.uint8(0x5C)
"""Of HMAC with SHA-256."""
_HASHES = 6
"""How many of a subject a second process may have a part in."""


def subjects_tree(frozen: Snapshot, tag_key: bytes, seed: bytes, erased: Iterable[tuple[bytes, bytes]] = ()) -> PrefixTree:
    """Of a snapshot that was compiled in this process. erased: leaves of those who are not in it any more."""
    assert frozen.salts is not None
    return PrefixTree(chain(_leaves(frozen.rows(), frozen.salts, tag_key, seed), erased))


def leaves_of(
    events: Sequence[tuple[int, Mapping[str, Any], bytes]],
    snapshots: Iterable[tuple[int, Mapping[str, Any]]],
    purposes: Mapping[str, Sequence[tuple[datetime, Purpose]]],
    tag_key: bytes,
) -> Iterator[tuple[int, bytes, bytes]]:
    """(position of the snapshot's act, index, value): the leaf that one person has in the set of each of these snapshots.

    events: all of that person, in log order, as (position, document, salt). snapshots: acts `snapshot_compiled`.
    """
    for some in _batches(_spoken(events, snapshots, purposes)):
        # As if they were of so many people: a query takes tens of milliseconds, however little it asks, and there may be a
        # thousand snapshots, with the writer's lock held.
        numbered = [
            acts.set_column(0, "subject_id", pa.array([f"{number:06}"] * len(acts), pa.string()))
            for number, (_, _, acts, _) in enumerate(some)
        ]
        rows = folding.latest_per_scope(pa.concat_tables(numbered))
        people = _people(rows, b"".join(salt for *_, salt in some))
        for (at, act, _, _), (_, salt, said) in zip(some, people, strict=True):
            seed = bytes.fromhex(act["subjects_seed"])
            index = prefix_tree.index(seed, events[0][1]["subject_id"])
            yield at, index, prefix_tree.value(_blind(tag_key, salt, seed), said)


_Spoken = tuple[int, Mapping[str, Any], Any, bytes]
"""The position and act of a snapshot that speaks of a person, their acts in it, and the salt of the first."""


def _spoken(
    events: Sequence[tuple[int, Mapping[str, Any], bytes]],
    snapshots: Iterable[tuple[int, Mapping[str, Any]]],
    purposes: Mapping[str, Sequence[tuple[datetime, Purpose]]],
) -> Iterator[_Spoken]:
    for at, act in snapshots:
        some = [(position, document) for position, document, _ in events if position < act["tree_size"]]
        if "subjects_root" not in act or not some:
            continue
        token, version = split_purpose(act["purpose"])
        accepts = next(purpose.accepts for _, purpose in purposes[token] if purpose.version == version)
        acts = folding.acts_of(some, token, accepts, times.parse(act["as_of"]))
        if acts.num_rows:
            first = min(acts["position"].to_pylist())
            yield at, act, acts, next(salt for position, _, salt in events if position == first)


def _batches(spoken: Iterable[_Spoken]) -> Iterator[list[_Spoken]]:
    some, rows = list[_Spoken](), 0
    for one in spoken:
        some.append(one)
        rows += one[2].num_rows
        if rows >= _BATCH:
            yield some
            some, rows = [], 0
    if some:
        yield some


def _leaves(rows: Any, salts: bytes, tag_key: bytes, seed: bytes) -> Iterator[tuple[bytes, bytes]]:
    for subject_id, salt, said in _people(rows, salts):
        yield prefix_tree.index(seed, subject_id), prefix_tree.value(_blind(tag_key, salt, seed), said)


def act_fields(frozen: Snapshot, tag_key: bytes) -> dict[str, str]:
    """Root and seed for the act. None for a snapshot that was compiled in another process: its salts stayed there."""
    if frozen.salts is None:
        return {}
    seed = secrets.token_bytes(SEED_BYTES)
    return {"subjects_root": _root(frozen.rows(), frozen.salts, tag_key, seed).hex(), "subjects_seed": seed.hex()}


def _root(rows: Any, salts: bytes, tag_key: bytes, seed: bytes) -> bytes:
    """Of `subjects_tree`, without the tree."""
    indexes, values, at = [], [], 0
    with Hashers(_HASHES * (len(salts) // SALT_BYTES)) as hashers:
        for subject_ids, texts in sayings.of_each(rows):
            some = np.frombuffer(salts, np.uint8, SALT_BYTES * len(texts), at).reshape(-1, SALT_BYTES)
            at += SALT_BYTES * len(texts)
            blinds = pa.py_buffer(_blinds(tag_key, some, seed, hashers))
            blinded = pa.FixedSizeBinaryArray.from_buffers(pa.binary(HASH_BYTES), len(texts), [None, blinds])
            said = pc.binary_join_element_wise(blinded.cast(pa.binary()), texts.cast(pa.binary()), b"")
            indexes.append(_hashed(hashers, prefix_tree.index_head(seed), subject_ids))
            values.append(_hashed(hashers, prefix_tree.VALUE_HEAD, said))
        if not indexes:
            return EMPTY
        return prefix_root.root(np.concatenate(indexes), np.concatenate(values), hashers.alike, by_two=hashers.by_two)


def _hashed(hashers: Hashers, head: bytes, texts: Any) -> Bytes:
    """texts: an Arrow array."""
    return hashers.each(head, *text_bytes(texts.cast(pa.binary())))


def _blinds(tag_key: bytes, salts: Bytes, seed: bytes, hashers: Hashers) -> Bytes:
    """`_blind` of many, a salt a row: HMAC (RFC 2104) by its parts, of all at once."""
    before_text, before_hash = hmac_blocks(tag_key)
    # In this process alone: the tag key, and what is made with it, is for no other to see. What follows is of one person each.
    tagged = hashers.alike(_after(before_text + SECRET, salts), secret=True)
    keys = np.zeros((len(salts), _BLOCK), np.uint8)
    keys[:, :HASH_BYTES] = hashers.alike(_after(before_hash, tagged), secret=True)
    seeds = np.broadcast_to(np.frombuffer(seed, np.uint8), (len(salts), len(seed)))
    inner = hashers.alike(np.concatenate([keys ^ _INNER, seeds], axis=1))
    return hashers.alike(np.concatenate([keys ^ _OUTER, inner], axis=1))


def _after(head: bytes, texts: Bytes) -> Bytes:
    """Each of them, with the head before it."""
    together = np.empty((len(texts), len(head) + texts.shape[1]), np.uint8)
    together[:, : len(head)] = np.frombuffer(head, np.uint8)
    together[:, len(head) :] = texts
    return together


def opened(frozen: Snapshot, tag_key: bytes, seed: bytes, subject_id: str) -> tuple[bytes, dict[str, Any]] | None:
    """The blind of one subject and what the snapshot says of it; None where it says nothing."""
    assert frozen.salts is not None
    for found, salt, said in _people(frozen.rows(), frozen.salts):
        if found == subject_id:
            return _blind(tag_key, salt, seed), said
    return None


def _blind(tag_key: bytes, salt: bytes, seed: bytes) -> bytes:
    return hmac.digest(subject_secret(tag_key, salt), seed, "sha256")


def _people(table: Any, salts: bytes) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """(subject, salt of its first event, what is said of it), in the order of the snapshot's rows."""
    number = 0
    subject, rows = None, list[dict[str, Any]]()
    for current, row in _rows(table):
        if current != subject:
            if subject is not None:
                yield subject, salts[number : number + SALT_BYTES], {"rows": rows}
                number += SALT_BYTES
            subject, rows = current, []
        rows.append(row)
    if subject is not None:
        yield subject, salts[number:], {"rows": rows}


def _rows(table: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows as they are said, each with its subject. In batches: as Python values they are many times as large."""
    moment = lru_cache(100_000)(lambda micros: times.text(times.from_micros(micros)))
    for batch in table.to_batches(_BATCH):
        columns = [batch.column(name).to_pylist() for name in table.column_names]
        for (subject, scope, scope_id, no_at, no_state, no_position,
             yes_at, yes_position, accepted, expires, since, basis) in zip(*columns, strict=True):  # fmt: skip
            row: dict[str, Any] = {"scope": _SCOPES[scope]}
            if scope:
                row["scope_id"] = scope_id
            if no_at != NONE:
                row |= {"no_at": moment(no_at), "no_state": NO[no_state], "no_position": no_position}
            if yes_at != NONE:
                row |= {
                    "yes_at": moment(yes_at),
                    "yes_position": yes_position,
                    "yes_accepted": int(accepted),
                    "yes_basis": BASES[basis],
                }
                if expires != NONE:
                    row["yes_expires_at"] = moment(expires)
                if since != NONE:
                    row["yes_content_since"] = moment(since)
            yield subject, row
