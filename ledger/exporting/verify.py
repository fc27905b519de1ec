#!/usr/bin/env python3
"""Checks the proofs of a consent ledger with nothing but Python 3.9 or later: no packages, no network, no database.

    python3 verify.py --trust FILE [PATH...]        without a PATH: the export in whose folder this file lies

--trust FILE holds the keys that YOU trust. It must come to you from somewhere else than what you check. A PATH is

    an export, unpacked or as .zip              a folder of shards, or its statement NAME.intoto.jsonl beside it
    the receipt of an event or of an act        a snapshot with its NAME.receipt beside it
    a membership document (in-run.json, in-snapshot.json)

Exit code: 0 all of it verifies; 4 something does not; 1 something could not be read; 2 it was called wrongly.
It prints what it checked, and, on lines that begin with NOT, what it did not.

It is written from the standards and from docs/formats.md of consent-ledger, and shares no code with that program:

    1 RFC 8032 (Ed25519)     2 RFC 8785 (canonical JSON), RFC 4648     3 the fields of documents
    4 RFC 6962 and RFC 9162 (Merkle trees)      5 C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof, tlog-tiles
    6 trust files     7 receipts     8 DSSE and in-toto: statements of runs and audits     9 membership in a set of subjects
    10 exports     11 files and the command line

Every byte that is read is taken to be hostile: sizes are bounded, and what is not understood is refused.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import json
import os
import re
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Any, NoReturn

MAX_RECEIPT = MAX_TRUST = 1 << 20  # bytes
MAX_MEMBERSHIP = 2 << 20
MAX_STATEMENT = MAX_EXPORT = MAX_NOTICE = 64 << 20
MAX_NOTE = 1 << 20  # characters
MAX_SIGNATURES = 100  # of a note; of an envelope 16
MAX_SIZE = 2**63 - 1  # entries of a log


class Refused(Exception):
    """It does not verify."""


def refuse(why: str) -> NoReturn:
    raise Refused(why)


def require(holds: object, why: str) -> None:
    if not holds:
        refuse(why)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def shown(value: object) -> str:
    """Text of others, quoted, escaped and cut, so that it can neither end a line nor steer a terminal."""
    quoted = ascii(value)
    return quoted if len(quoted) <= 200 else quoted[:200] + "..."


# --- 1 Ed25519, RFC 8032 ----------------------------------------------------------------------------------------------------
# Section 5.1 gives the numbers, 5.1.3 how a point is written as 32 bytes, 5.1.4 how points are added, 5.1.7 how a signature is
# verified. Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, x * y = T/Z.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def add(a: Point, b: Point) -> Point:
    """5.1.4; the same formula doubles a point."""
    left, right = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * D * a[3] * b[3] % P, 2 * a[2] * b[2] % P
    e, f, g, h = right - left, d - c, d + c, right + left
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(a: int, point: Point, b: int = 0, other: Point = NEUTRAL) -> Point:
    """a * point + b * other, from the highest bit down."""
    both, total = add(point, other), NEUTRAL
    for bit in range(max(a.bit_length(), b.bit_length()) - 1, -1, -1):
        total = add(total, total)
        pick = (a >> bit & 1, b >> bit & 1)
        if pick != (0, 0):
            total = add(total, both if pick == (1, 1) else point if pick[0] else other)
    return total


def point_to_bytes(point: Point) -> bytes:
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def point_from_bytes(data: bytes) -> Point | None:
    """5.1.3; None for what is no point, or is not written in the one way in which it may be."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if len(data) != 32 or y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point_from_bytes((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")) or NEUTRAL


@functools.lru_cache(maxsize=1024)
def public_key(data: bytes) -> Point | None:
    """The key's point; None for a key that no careful signer has: of small or mixed order, anybody could sign by some of them.

    RFC 8032 leaves that open, and OpenSSL takes such keys (and keys that 5.1.3 calls wrongly written). This is stricter.
    """
    point = point_from_bytes(data)
    neutral = point_to_bytes(NEUTRAL)
    if point is None or data == neutral or point_to_bytes(times(L, point)) != neutral:
        return None
    return point


def signed_by(key: bytes, message: bytes, signature: bytes) -> bool:
    """5.1.7, without cofactor, as OpenSSL does it: R is compared as bytes, so that it has one form; S is below L."""
    point = public_key(key)
    s = int.from_bytes(signature[32:], "little")
    if point is None or len(signature) != 64 or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    minus = (P - point[0], point[1], 1, P - point[3])
    return point_to_bytes(times(s, BASE, k, minus)) == signature[:32]


# --- 2 Canonical JSON, RFC 8785; base64, RFC 4648 section 4 -------------------------------------------------------------------
# Of JSON's values only text, integers within 2^53-1, lists and objects, at most 32 within each other.


def to_canonical(value: object, depth: int = 32) -> str:
    """Raises ValueError for what has no canonical form."""
    if isinstance(value, str):
        value.encode()  # refuses half of a surrogate pair
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return str(value)
    if depth and isinstance(value, list):
        return "[" + ",".join([to_canonical(item, depth - 1) for item in value]) + "]"
    if depth and isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))  # section 3.2.3: by UTF-16 code units
        return "{" + ",".join([to_canonical(k, 0) + ":" + to_canonical(value[k], depth - 1) for k in keys]) + "}"
    raise ValueError("a value that is not allowed, or nested too deeply")


def canonical(value: object) -> bytes:
    return to_canonical(value).encode()


def from_canonical(data: bytes, limit: int) -> dict[str, Any]:
    """The object that these bytes are the canonical form of: read, written again, and compared."""
    require(len(data) <= limit, f"a document of {len(data)} bytes; {limit} are allowed")
    try:
        text = data.decode()
        value = json.loads(text, parse_int=_small_integer, parse_float=_no_number, parse_constant=_no_number)
        require(isinstance(value, dict) and to_canonical(value) == text, "a document is not a JSON object in canonical form")
    except (ValueError, RecursionError):
        refuse("a document is not canonical JSON")
    return dict(value)


def _small_integer(digits: str) -> int:
    if len(digits) > 17:
        raise ValueError("an integer beyond 2^53-1")
    return int(digits)


def _no_number(text: str) -> NoReturn:
    raise ValueError("a number that is no integer")


def text_of(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        refuse("what must be text is not UTF-8")


def from_base64(text: object, length: int | None = None) -> bytes:
    """Only what encoding its result gives again: padded, no white space, no stray bits."""
    try:
        require(isinstance(text, str), "something else stands where base64 must be")
        data = base64.b64decode(str(text), validate=True)
    except ValueError:
        refuse(f"not base64: {shown(text)}")
    require(base64.b64encode(data).decode() == text, f"base64 of another form: {shown(text)}")
    require(length is None or len(data) == length, f"{len(data)} bytes where {length} must be")
    return data


# --- 3 Fields of documents ----------------------------------------------------------------------------------------------------
# A check says whether a value may stand in a field. A table gives each field of an object its check; a name that ends with "?"
# may be absent. No other field may be there.

Check = Callable[[Any], bool]
Table = dict[str, Check]


def is_text(value: Any, most: int = 4096) -> bool:
    return isinstance(value, str) and 0 < len(value.encode()) <= most


def is_id(value: Any) -> bool:
    return is_text(value, 512) and "\0" not in value


def is_document(value: Any) -> bool:
    return is_text(value, MAX_RECEIPT)


def is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def is_positive(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_purpose(value: Any) -> bool:
    return is_id(value) and re.fullmatch("(?s).*@[1-9][0-9]*", value) is not None


def is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and moment(value) is not None
    except ValueError:
        return False


def moment(text: str) -> datetime:
    """YYYY-MM-DDThh:mm:ss.ffffffZ. Raises ValueError for another form and for a moment that does not exist."""
    match = re.fullmatch(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{6})Z", text)
    if not match:
        raise ValueError("not a moment")
    year, month, day, hour, minute, second, micro = map(int, match.groups())
    return datetime(year, month, day, hour, minute, second, micro, timezone.utc)


def one_of(*words: str) -> Check:
    return lambda value: value in words


def list_of(check: Check) -> Check:
    """Never empty: what is absent is absent."""
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(check, value))


def counts_of(*words: str) -> Check:
    return lambda value: isinstance(value, dict) and all(k in words and is_positive(v) for k, v in value.items())


def is_texts_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(is_text(k) and is_text(v) for k, v in value.items())


def object_of(table: Table) -> Check:
    def check(value: Any) -> bool:
        closed(value, table)
        return True

    return check


def closed(value: Any, table: Table) -> None:
    require(isinstance(value, dict), "something else stands where an object must be")
    checks = {name.rstrip("?"): check for name, check in table.items()}
    lacking = [name for name in table if not name.endswith("?") and name not in value]
    require(not lacking, f"a document lacks the field {', '.join(lacking)}")
    for name, item in value.items():
        require(name in checks, f"a document has a field that it may not have: {shown(name)}")
        require(checks[name](item), f"the field {name} holds what it may not hold: {shown(item)}")


YES, NO = ("given", "renewed"), ("refused", "withdrawn", "objected", "revoked")
DROPPED = ("subject_missing", "category_excluded", *NO, "not_covered", "notice_changed", "expired", "no_record")
BASES = ("assertion", "import", "evidence", "session")

EVENT: Table = {
    "event_id": is_id, "state": one_of(*YES, *NO), "subject_id": is_id,
    "purposes": list_of(lambda value: value == "*" or is_purpose(value)),
    "actor": one_of("subject", "guardian", "controller", "authority"), "recorded_at": is_moment, "recorded_by": is_text,
    "category?": is_id, "content_id?": is_id, "occurred_at?": is_moment, "expires_at?": is_moment, "content_since?": is_moment,
    "channel?": is_text, "notice?": is_text, "notice_sha256?": is_sha256, "jurisdiction?": is_text,
    "evidence_sha256?": is_sha256, "reason?": is_text,
}  # fmt: skip

SET: Table = {"subjects_root?": is_sha256, "subjects_seed?": is_sha256}
ACTS: dict[str, Table] = {
    "purpose_declared": {
        "token": is_id, "version": is_positive, "title": is_text, "description": is_text, "basis": one_of("consent", "licence"),
        "controller?": is_text, "contact?": is_text, "recipients?": list_of(is_text), "categories?": list_of(is_id),
        "retention?": is_text, "withdraw_url?": is_text, "accepts?": list_of(is_positive)},
    "notice_declared": {"notice_id": is_id, "version": is_positive, "language": is_text, "sha256": is_sha256},
    "key_added": {"role": one_of("log", "run"), "vkey": is_text},
    "key_ended": {"role": one_of("log", "run"), "vkey": is_text},
    "import_finished": {
        "file_sha256": is_sha256, "new": is_count, "repeated": is_count, "suppressed": is_count, "reversals": is_count,
        "rejected": is_count, "source?": is_text},
    "snapshot_compiled": {
        "purpose": is_purpose, "snapshot_sha256": is_sha256, "file_sha256": is_sha256, "tree_size": is_count,
        "as_of": is_moment, **SET},
    "statement_made": {"statement_sha256": is_sha256, "predicate_type": is_text, "snapshot_sha256?": is_sha256, **SET},
    "link_revoked": {"token_sha256": is_sha256},
    "subject_erased": {
        "order": is_text, "tag": is_sha256, "positions": list_of(is_count), "event_tags_sha256": is_sha256, "basis": is_text},
}  # fmt: skip


# --- 4 Merkle trees, RFC 6962 section 2.1, verified as in RFC 9162 section 2.1 -----------------------------------------------

EMPTY_TREE = sha256(b"")


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry)


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


def check_inclusion(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> dict[int, bytes]:
    """RFC 9162 section 2.1.3.2. Returns roots of other sizes that the proof shows too, size -> root.

    The siblings on the left are the perfect subtrees that make up the first `index` leaves. So the same proof shows the roots of
    the trees of index and of index + 1 leaves.
    """
    require(0 <= index < size, f"a proof of entry {index} of a log of {size}")
    require(all(len(value) == 32 for value in (leaf, root, *path)), "a proof holds what is no SHA-256 hash")
    fn, sn, r, on_the_left = index, size - 1, leaf, []
    for p in path:
        require(sn, "an inclusion proof is too long")
        if fn & 1 or fn == sn:
            on_the_left.append(p)
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    require(not sn, "an inclusion proof is too short")
    require(r == root, f"the proof of entry {index} does not lead to the root that was signed for {size} entries")
    roots = {size: root, index + 1: functools.reduce(lambda r, left: node_hash(left, r), on_the_left, leaf)}
    if index:
        roots[index] = functools.reduce(lambda r, left: node_hash(left, r), on_the_left)
    return roots


def check_consistency(first: int, first_root: bytes, second: int, second_root: bytes, path: list[bytes]) -> None:
    """RFC 9162 section 2.1.4.2: the first tree is the beginning of the second one."""
    require(0 < first <= second, f"a log of {second} entries cannot continue one of {first}")
    if first == second:
        require(not path and first_root == second_root, f"two different logs of {first} entries")
        return
    require(all(len(value) == 32 for value in (first_root, second_root, *path)), "a proof holds what is no SHA-256 hash")
    require(path, "a consistency proof is empty")
    if first & (first - 1) == 0:
        path = [first_root, *path]
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        require(sn, "a consistency proof is too long")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    require(not sn, "a consistency proof is too short")
    require(fr == first_root and sr == second_root, f"the log of {second} entries does not continue the one of {first}")


# --- 5 Notes and what is made of them, c2sp.org -------------------------------------------------------------------------------

SIGNS, COSIGNS = b"\x01", b"\x04"  # signature types of signed-note: Ed25519, and a witness's cosignature with Ed25519


class Key:
    """NAME+ID+KEY of signed-note. raw: 32 bytes."""

    def __init__(self, vkey: str, kind: bytes) -> None:
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        require(is_key_name(name) and re.fullmatch("[0-9a-f]{8}", key_id) and encoded, f"not a verifier key: {shown(vkey)}")
        data = from_base64(encoded, 33)
        self.name, self.raw, self.id = name, data[1:], sha256(name.encode() + b"\n" + data)[:4]
        require(data[:1] == kind, f"the key of {shown(name)} is of another type")
        require(self.id.hex() == key_id, f"the key of {shown(name)} has not the id {key_id}")
        require(public_key(self.raw), f"the key of {shown(name)} is none that Ed25519 allows")


def is_key_name(name: str) -> bool:
    return re.fullmatch(r"[^\s+\x00-\x1f\x7f\ud800-\udfff]+", name) is not None


def parse_note(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """signed-note: the text that is signed, and name, key id and signature of each line."""
    require(len(note) <= MAX_NOTE, f"a note of {len(note)} characters")
    require(not re.search(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]", note), "a note with a control character")
    text, gap, end = note.rpartition("\n\n")
    require(gap and end.endswith("\n"), "not a signed note: a text, an empty line, and signatures")
    lines, signatures = end[:-1].split("\n"), []
    require(len(lines) <= MAX_SIGNATURES, f"a note with {len(lines)} signatures")
    for line in lines:
        match = re.fullmatch("— ([^ ]+) ([^ ]+)", line)
        if match is None or not is_key_name(match[1]):
            refuse(f"not a signature line: {shown(line)}")
        data = from_base64(match[2])
        require(len(data) > 4, "a signature line without a signature")
        signatures.append((match[1], data[:4], data[4:]))
    return text + "\n", signatures


def parse_checkpoint(text: str) -> tuple[str, int, bytes]:
    """tlog-checkpoint: origin, size, root. Further lines say nothing about the tree."""
    lines = text.split("\n")
    require(len(lines) >= 4 and lines.pop() == "" and all(lines), "not a checkpoint: origin, size and root on a line each")
    require(re.fullmatch("0|[1-9][0-9]{0,18}", lines[1]) and int(lines[1]) <= MAX_SIZE, f"not a size: {shown(lines[1])}")
    root = from_base64(lines[2], 32)
    require(lines[1] != "0" or root == EMPTY_TREE, "a log without entries has another root")
    return lines[0], int(lines[1]), root


def cosigned_at(key: Key, text: str, signature: bytes) -> int | None:
    """tlog-cosignature v1: eight bytes of time (seconds since 1970), then the signature. None: it is false."""
    seconds = int.from_bytes(signature[:8], "big")
    message = f"cosignature/v1\ntime {seconds}\n{text}".encode()
    return seconds if 0 < seconds < 2**63 and signed_by(key.raw, message, signature[8:]) else None


def parse_proof(text: str) -> tuple[int, list[bytes], str, bytes | None]:
    """tlog-proof v1: index, hashes, checkpoint, extra data."""
    require(len(text) <= 2 * MAX_NOTE, "a proof that is too long")
    head, gap, note = text.partition("\n\n")
    lines = head.split("\n")
    require(lines.pop(0) == "c2sp.org/tlog-proof@v1" and gap and note, "not a proof by c2sp.org/tlog-proof@v1")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = from_base64(lines.pop(0)[6:])
        require(extra, "an `extra` line with nothing in it")
    index = re.fullmatch("index (0|[1-9][0-9]{0,18})", lines.pop(0)) if lines else None
    if index is None or int(index[1]) > MAX_SIZE:
        refuse("a proof without its line `index N`")
    require(len(lines) <= 63, f"a proof of {len(lines)} hashes")
    return int(index[1]), [from_base64(line, 32) for line in lines], note, extra


def tile_path(level: int | str, number: int, width: int = 256) -> str:
    """tlog-tiles: where hashes (level 0 to 63) or entries (level "entries") of the published log stand."""
    require(level == "entries" or level in range(64), f"no tile has level {shown(level)}")
    require(0 <= number < 2**64 and 1 <= width <= 256, f"there is no tile {number} of {width}")
    digits = str(number)
    digits = digits.zfill((len(digits) + 2) // 3 * 3)
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    place = "/".join(["x" + part for part in parts[:-1]] + parts[-1:])
    return f"tile/{level}/{place}" + (f".p/{width}" if width < 256 else "")


# --- 6 Trust files: lines of `log`, `run`, `witness`, `group`, `quorum` ------------------------------------------------------


class Trust:
    """Whom you trust. A line that is not understood is refused: to pass over a demand would be to trust more than you said."""

    def __init__(self, text: str) -> None:
        self.log: list[Key] = []
        self.run: list[Key] = []
        self.until: dict[tuple[str, bytes], int] = {}  # of a log key that was replaced: the largest size that it may sign
        self.witnesses: dict[str, Key] = {}
        self.groups: dict[str, tuple[int, list[str]]] = {}
        self.quorum: str | None = None
        self.at_the_end = False  # whether the quorum is asked for by `Histories.require_witnessed`, not of each checkpoint alone
        self.opened: set[tuple[str, int]] = set()  # origin and size of the checkpoints met
        self.witnessed: set[tuple[str, int]] = set()  # those that have the quorum
        self._opened: dict[bytes, tuple[str, int, bytes]] = {}  # by a note's digest: many receipts have one checkpoint
        require(len(text) <= MAX_TRUST, "a trust file that is too long")
        for number, line in enumerate(text.split("\n"), start=1):
            words = re.findall(r"[^ \t\r]+", line)
            if words and not words[0].startswith("#"):
                read = {
                    "log": self._log, "run": self._run, "witness": self._witness, "group": self._group, "quorum": self._quorum
                }.get(words[0])  # fmt: skip
                require(read and read(words[1:]), f"line {number} of the trust file is not understood: {shown(line)}")
        own = [key.raw for key in self.log]
        require(not any(key.raw in own for key in self.witnesses.values()), "a witness has the log's own key")
        require(self.quorum or not (self.witnesses or self.groups), "the trust file names witnesses, and no `quorum`")

    def _log(self, words: list[str]) -> bool:
        if len(words) > 1 and re.fullmatch(r"https?://[\x21-\x7e]+", words[1]):
            del words[1]
        if len(words) not in (1, 3) or words[1:2] not in ([], ["until"]):
            return False
        key = Key(words[0], SIGNS)
        if len(words) == 3:
            if not re.fullmatch("0|[1-9][0-9]{0,18}", words[2]):
                return False
            self.until[key.name, key.raw] = min(int(words[2]), self.until.get((key.name, key.raw), MAX_SIZE))
        self.log.append(key)
        return True

    def _run(self, words: list[str]) -> bool:
        self.run += [Key(word, SIGNS) for word in words]
        return len(words) == 1

    def _witness(self, words: list[str]) -> bool:
        if len(words) not in (2, 3) or (len(words) == 3 and not re.fullmatch(r"https?://[\x21-\x7e]+", words[2])):
            return False
        key = Key(words[1], COSIGNS)
        require(self._is_new(words[0]), f"the name {shown(words[0])} is taken")
        require(key.raw not in [other.raw for other in self.witnesses.values()], "two witnesses have one key")
        self.witnesses[words[0]] = key
        return True

    def _group(self, words: list[str]) -> bool:
        if len(words) < 3 or not self._is_new(words[0]):
            return False
        members = words[2:]
        need = {"any": "1", "all": str(len(members))}.get(words[1], words[1])
        if len(set(members)) < len(members) or any(m not in self.witnesses and m not in self.groups for m in members):
            return False
        if not re.fullmatch("[1-9][0-9]{0,18}", need) or int(need) > len(members):
            return False
        self.groups[words[0]] = int(need), members
        return True

    def _quorum(self, words: list[str]) -> bool:
        if len(words) != 1 or self.quorum or not (words[0] == "none" or words[0] in {**self.witnesses, **self.groups}):
            return False
        self.quorum = words[0]
        return True

    def _is_new(self, name: str) -> bool:
        return name != "none" and name not in self.witnesses and name not in self.groups

    def open_checkpoint(self, note: str) -> tuple[str, int, bytes]:
        """Origin, size and root, once a log key of that name has signed it, and (see at_the_end) the witnesses that are demanded.

        Signatures by keys that the trust file does not name are passed over; one by a key that it names must verify.
        """
        digest = sha256(note.encode("utf-8", "surrogatepass"))
        if digest not in self._opened:
            self._opened[digest] = self._open(note)
            self.opened.add(self._opened[digest][:2])
        return self._opened[digest]

    def _open(self, note: str) -> tuple[str, int, bytes]:
        text, signatures = parse_note(note)
        own, met = [], set()
        for name, key_id, signature in signatures:
            for key in self.log:
                if (key.name, key.id) == (name, key_id):
                    require(signed_by(key.raw, text.encode(), signature), "the signature of a checkpoint is false")
                    own.append(key)
        require(own, "a checkpoint is not signed by a log key that you trust")
        origin, size, root = parse_checkpoint(text)
        own = [key for key in own if key.name == origin]
        require(own, f"a checkpoint of {shown(origin)} is signed by the key of another log")
        until = max(self.until.get((key.name, key.raw), MAX_SIZE) for key in own)
        require(size <= until, f"a checkpoint of {size} entries is signed by a key that was replaced at {until}")
        if self.quorum is not None:
            for name, key_id, signature in signatures:
                for witness, key in self.witnesses.items():
                    if (key.name, key.id) == (name, key_id):
                        require(cosigned_at(key, text, signature), "the cosignature of a witness is false")
                        met.add(witness)
            for group, (need, members) in self.groups.items():
                if sum(member in met for member in members) >= need:
                    met.add(group)
            enough = self.quorum == "none" or self.quorum in met
            require(enough or self.at_the_end, "a checkpoint is not cosigned by the witnesses you demand")
            if enough:
                self.witnessed.add((origin, size))
        return origin, size, root


# --- 7 Receipts: an event or an act, the opening of its commitment, its proof and checkpoint ---------------------------------


class Receipt:
    """What a receipt shows: its document (`event` or `act`) is entry `position` of log `origin`. tag: of an event's subject."""

    def __init__(self, line: bytes, trust: Trust) -> None:
        receipt = from_canonical(line, MAX_RECEIPT)
        common: Table = {"format": is_text, "proof": is_document, "salt": is_text}
        self.is_event = receipt.get("format") == "urn:consent-ledger:receipt:v1"
        self.tag = b""
        if self.is_event:
            closed(receipt, {**common, "event": object_of(EVENT), "tag": is_text})
            self.document: dict[str, Any] = receipt["event"]
        else:
            require(receipt.get("format") == "urn:consent-ledger:act-receipt:v1", "this is no receipt")
            closed(receipt, {**common, "act": lambda act: isinstance(act, dict) and act.get("act") in [*ACTS]})
            self.document = receipt["act"]
            kind: Table = {"act": is_text, "recorded_at": is_moment, "recorded_by": is_text}
            closed(self.document, {**kind, **ACTS[self.document["act"]]})
        salt, content = from_base64(receipt["salt"], 32), canonical(self.document)
        if self.is_event:
            self.tag = from_base64(receipt["tag"], 32)
            body = sha256(b"consent-ledger/body/v1\n" + salt + content)
            entry = sha256(b"consent-ledger/event/v1\n" + self.tag + body)
        else:
            entry = sha256(b"consent-ledger/act/v1\n" + salt + content)
        self.position, path, note, extra = parse_proof(receipt["proof"])
        require(extra is None, "a receipt's proof carries extra data, which nothing vouches for")
        self.origin, self.size, root = trust.open_checkpoint(note)
        self.roots = check_inclusion(leaf_hash(entry), self.position, self.size, path, root)
        signers = [(name, key_id) for name, key_id, _ in parse_note(note)[1]]
        named = [(key.name, key.id) for key in (*trust.log, *trust.witnesses.values())]
        require(len(set(signers)) == len(signers), "a receipt's checkpoint is signed twice by one key")
        require(set(signers) <= set(named), "a receipt's checkpoint bears a signature that nothing here can check")
        if self.is_event:
            check_event(self.document)

    @property
    def place(self) -> str:
        tile = f"in the published log: {tile_path('entries', self.position // 256)}, place {self.position % 256}"
        return f"entry {self.position} of log {shown(self.origin)}, under its signed checkpoint of {self.size} entries ({tile})"


def check_event(event: dict[str, Any]) -> None:
    """What an event must be beyond its shape."""
    purposes = event["purposes"]
    require(purposes == sorted(set(purposes)), "the purposes of an event are not sorted, or one is named twice")
    require("*" not in purposes or len(purposes) == 1, "`*` stands beside other purposes")
    require("category" not in event or "content_id" not in event, "an event speaks of a category and of one item")
    if event["state"] in NO:
        require("expires_at" not in event and "content_since" not in event, "a no with an end, or for some content only")
        return
    require("*" not in purposes, "a yes to all purposes")
    require("occurred_at" in event, "a yes without a date")
    require(event["actor"] in ("subject", "guardian"), "a yes that somebody else said")
    if event["actor"] == "guardian":
        require("evidence_sha256" in event and "expires_at" in event, "a guardian's yes without evidence, or without an end")
    require(event.get("channel") != "one-click", "a yes by one click")
    require("expires_at" not in event or moment(event["expires_at"]) > moment(event["occurred_at"]), "a yes that ends first")


def open_act(line: bytes, trust: Trust, kind: str) -> Receipt:
    receipt = Receipt(line, trust)
    found = receipt.document.get("act")
    require(found == kind, f"a receipt of {shown(found)} stands where one of {kind} belongs")
    return receipt


class Histories:
    """Whether all checkpoints of a log that were met here are of one history of it: two roots for one size are two."""

    def __init__(self) -> None:
        self.roots: dict[str, dict[int, bytes]] = {}
        self.met: dict[str, set[int]] = {}  # sizes of checkpoints
        self.prefixes: dict[tuple[str, int], set[int]] = {}

    def meet(self, origin: str, size: int, roots: dict[int, bytes]) -> None:
        known = self.roots.setdefault(origin, {})
        for at, root in roots.items():
            forked = f"log {shown(origin)} has shown two histories of its first {at} entries: keep both documents, they prove it"
            require(known.setdefault(at, root) == root, forked)
        self.met.setdefault(origin, set()).add(size)
        self.prefixes.setdefault((origin, size), set()).update(roots)

    def join(self, proof: bytes, trust: Trust) -> None:
        """A consistency proof in the form that C2SP tlog-witness gives it: `old SIZE`, hashes, an empty line, a checkpoint."""
        head, gap, note = text_of(proof).partition("\n\n")
        lines = head.split("\n")
        old = re.fullmatch("old ([1-9][0-9]{0,18})", lines[0])
        if old is None or not gap or len(lines) > 64:
            refuse("not a consistency proof: `old SIZE`, at most 63 hashes, an empty line, a checkpoint")
        origin, size, root = trust.open_checkpoint(note)
        first = int(old[1])
        require(first in self.roots.get(origin, {}), f"a consistency proof from {first} entries, which nothing here speaks of")
        first_root = self.roots[origin][first]
        check_consistency(first, first_root, size, root, [from_base64(line, 32) for line in lines[1:]])
        self.meet(origin, size, {first: first_root, size: root})

    def require_witnessed(self, trust: Trust) -> None:
        """Every checkpoint has the quorum, or is shown to be part of one that has it."""
        opened = trust.opened if trust.quorum else set()
        whole = {origin: self._shown(origin, {size for name, size in trust.witnessed if name == origin}) for origin, _ in opened}
        for origin, size in sorted(opened):
            why = f"the checkpoint of {size} entries is not cosigned by the witnesses you demand, nor part of one that is"
            require(size in whole[origin], why)

    def _shown(self, origin: str, sizes: set[int]) -> set[int]:
        """The checkpoints that are shown to be part of those of these sizes, themselves among them."""
        joined = set(sizes)
        for size in sorted(self.met.get(origin, ()), reverse=True):
            if any(size in self.prefixes.get((origin, larger), ()) for larger in joined):
                joined.add(size)
        return joined

    def sentences(self) -> list[str]:
        said = []
        for origin, sizes in self.met.items():
            joined = self._shown(origin, {max(sizes)})
            what = f"the {len(sizes)} checkpoints of log {shown(origin)} that were met here"
            if len(sizes) > 1:
                said.append(f"{what} are of one history" if joined >= sizes else f"NOT compared with each other: {what}")
        return said


# --- 8 Statements: DSSE v1.0.2, in-toto Statement v1 --------------------------------------------------------------------------

RUN, AUDIT = "urn:consent-ledger:run:v1", "urn:consent-ledger:audit:v1"
SELECTION = "urn:consent-ledger:selection:v1"
COLUMNS: Table = {
    "subject": list_of(is_text), "content?": is_text, "category?": is_text, "created?": is_text,
    "created_unit?": one_of("s", "ms", "us", "ns"), "subject_prefix?": is_text, "content_prefix?": is_text,
}  # fmt: skip
DECIDED: Table = {
    "purpose": is_purpose, "rule_version": is_text, "origin": is_text, "snapshot_sha256": is_sha256,
    "answers_sha256": is_sha256, "snapshot_receipt": is_document, "columns": object_of(COLUMNS), "decided_at": is_moment,
    "age_seconds": is_count, "max_age_seconds": is_count, "rests_on": counts_of(*BASES), "versions": is_texts_by_name,
    "started_at": is_moment, "finished_at": is_moment, "recipient?": is_text, "warnings?": list_of(is_text),
    "subjects?": object_of({"root": is_sha256, "seed": is_sha256, "count": is_count}),
}  # fmt: skip
RUN_SHARD: Table = {
    "input": is_text, "input_sha256": is_sha256, "output": is_text, "output_sha256": is_sha256, "rows_in": is_count,
    "rows_kept": is_count, "rows_dropped": counts_of(*DROPPED),
}  # fmt: skip
SELECTED: Table = {
    "name": is_text, "sha256": is_sha256, "size": is_count, "blocks_sha256": is_sha256, "positions_sha256": is_sha256,
    "rows_in": is_count, "rows_kept": is_count, "rows_dropped": counts_of(*DROPPED),
}  # fmt: skip
PREDICATES: dict[str, Table] = {
    RUN: {**DECIDED, "run_id": is_text, "rows_in": is_count, "rows_kept": is_count, "rows_dropped": counts_of(*DROPPED),
          "unmapped": is_count, "shards": list_of(object_of(RUN_SHARD)), "dropped_metadata?": list_of(is_text)},
    AUDIT: {**DECIDED, "audit_id": is_text, "rows": is_count,
            "shards": list_of(object_of({"name": is_text, "sha256": is_sha256, "rows": is_count}))},
    SELECTION: {**DECIDED, "selection_id": is_text, "rows_in": is_count, "rows_kept": is_count,
                "rows_dropped": counts_of(*DROPPED), "unmapped": is_count, "shards": list_of(object_of(SELECTED))},
}  # fmt: skip
ARTIFACT: Table = {"name": is_text, "digest": object_of({"sha256": is_sha256})}


def open_envelope(line: bytes, keys: list[Key]) -> bytes:
    """DSSE: the payload, once a key that is trusted has signed it."""
    envelope = from_canonical(line, MAX_STATEMENT)
    kind = "application/vnd.in-toto+json"
    closed(envelope, {"payload": lambda value: isinstance(value, str), "payloadType": one_of(kind),
                      "signatures": lambda value: isinstance(value, list) and len(value) <= 16})  # fmt: skip
    payload = from_base64(envelope["payload"])
    message = pre_authentication_encoding(kind, payload)
    known, signed = {key_id_of(key): key for key in keys}, False
    for signature in envelope["signatures"]:
        closed(signature, {"keyid": lambda value: isinstance(value, str), "sig": lambda value: isinstance(value, str)})
        data = from_base64(signature["sig"])
        if signature["keyid"] in known:
            require(signed_by(known[signature["keyid"]].raw, message, data), "the signature of a statement is false")
            signed = True
    require(signed, "a statement is not signed by a run key that you trust")
    return payload


def pre_authentication_encoding(kind: str, payload: bytes) -> bytes:
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)


def key_id_of(key: Key) -> str:
    return sha256(canonical({"keytype": "ed25519", "keyval": {"public": key.raw.hex()}, "scheme": "ed25519"})).hex()


def relative(name: str) -> bool:
    return "\0" not in name and "\\" not in name and not any(part in ("", ".", "..") for part in name.split("/"))


class Statement:
    """A statement's file: the envelope, and the receipt of the act that logged it. digests: of its shards, by name."""

    def __init__(self, data: bytes, trust: Trust) -> None:
        require(len(data) <= MAX_STATEMENT, "a statement that is too long")
        lines = data.split(b"\n")
        require(len(lines) != 2, "the statement is not in the log: its second line is missing")
        require(len(lines) == 3 and lines[2] == b"", "a statement's file has two lines")
        self.sha256 = sha256(lines[0]).hex()
        statement = from_canonical(open_envelope(lines[0], trust.run), MAX_STATEMENT)
        self.kind = str(statement.get("predicateType"))
        require(self.kind in PREDICATES, f"a statement of unknown type {shown(self.kind)}")
        closed(statement, {"_type": one_of("https://in-toto.io/Statement/v1"), "predicateType": is_text,
                           "subject": list_of(object_of(ARTIFACT)), "predicate": object_of(PREDICATES[self.kind])})  # fmt: skip
        said = self.said = statement["predicate"]
        require(said["age_seconds"] <= said["max_age_seconds"], "the answers were older than their limit")
        self.digests = {RUN: self._run, AUDIT: self._audit, SELECTION: self._selection}[self.kind](said)
        require(list(self.digests) == sorted(self.digests, key=str.encode), "the shards of a statement are not sorted by name")
        whole = sha256(b"".join(map(bytes.fromhex, self.digests.values()))).hex()
        artifacts = [{"name": n, "digest": {"sha256": d}} for n, d in [(".", whole), *self.digests.items()]]
        require(statement["subject"] == artifacts, "a statement's artifacts are not its shards")
        self._check_proofs(lines[1], trust)

    def _names(self, names: list[str]) -> None:
        require(all(map(relative, names)) and len(set(names)) == len(names), "a shard's name is none, or is given twice")

    def _run(self, said: dict[str, Any]) -> dict[str, str]:
        shards = said["shards"]
        self._names([shard["input"] for shard in shards])
        self._names([shard["output"] for shard in shards])
        self._count(said)
        metadata = said.get("dropped_metadata", [])
        require(metadata == sorted(set(metadata), key=str.encode), "dropped_metadata is not sorted, or names a key twice")
        return {shard["output"]: shard["output_sha256"] for shard in shards}

    def _count(self, said: dict[str, Any]) -> None:
        shards, dropped = said["shards"], dict.fromkeys(said["rows_dropped"], 0)
        for shard in shards:
            lost = shard["rows_dropped"]
            require(shard["rows_in"] == shard["rows_kept"] + sum(lost.values()), "the counts of a shard do not add up")
            for reason, number in lost.items():
                dropped[reason] = dropped.get(reason, 0) + number
        for name in ("rows_in", "rows_kept"):
            require(said[name] == sum(shard[name] for shard in shards), f"{name} is not the sum over the shards")
        require(said["rows_dropped"] == dropped, "rows_dropped is not the sum over the shards")
        require(sum(said["rests_on"].values()) == said["rows_kept"], "rests_on speaks of other rows than those kept")
        require(said["unmapped"] <= said["rows_in"] - said["rows_kept"], "more rows unmapped than dropped")

    def _selection(self, said: dict[str, Any]) -> dict[str, str]:
        names = [shard["name"] for shard in said["shards"]]
        self._names(names)
        require(names == sorted(names, key=str.encode), "the shards of a selection are not sorted by name")
        self._count(said)
        found = {shard["name"] + ".rows": shard["positions_sha256"] for shard in said["shards"]}
        found.update({shard["name"] + ".blocks": shard["blocks_sha256"] for shard in said["shards"]})
        return {name: found[name] for name in sorted(found, key=str.encode)}

    def _audit(self, said: dict[str, Any]) -> dict[str, str]:
        shards = said["shards"]
        self._names([shard["name"] for shard in shards])
        require(said["rows"] == sum(shard["rows"] for shard in shards), "rows is not the sum over the shards")
        require(sum(said["rests_on"].values()) == said["rows"], "rests_on speaks of other rows than those allowed")
        return {shard["name"]: shard["sha256"] for shard in shards}

    def _check_proofs(self, line: bytes, trust: Trust) -> None:
        said = self.said
        self.snapshot = open_act(said["snapshot_receipt"].encode(), trust, "snapshot_compiled")
        act = self.snapshot.document
        same = (act["snapshot_sha256"], act["purpose"]) == (said["snapshot_sha256"], said["purpose"])
        require(same, "a statement's snapshot is another one, or for another purpose")
        age = moment(said["decided_at"]) - moment(act["as_of"])
        require(timedelta(0) <= age, "rows were decided before the moment that their snapshot speaks of")
        require(age // timedelta(seconds=1) <= said["age_seconds"], "a snapshot was older than the statement says")
        self.logged = open_act(line, trust, "statement_made")
        act = self.logged.document
        same = (act["statement_sha256"], act["predicate_type"]) == (self.sha256, self.kind)
        require(same, "the receipt in the second line is of another statement")
        require(act.get("snapshot_sha256", said["snapshot_sha256"]) == said["snapshot_sha256"], "the log names another snapshot")
        committed = {f"subjects_{name}": said["subjects"][name] for name in ("root", "seed") if "subjects" in said}
        logged = {name: value for name, value in act.items() if name.startswith("subjects_")}
        require(logged == committed, "the log commits to another set of subjects")
        require(self.snapshot.origin == self.logged.origin == said["origin"], "statement, snapshot and log are of different logs")
        require(self.logged.position > self.snapshot.position, "a statement stands in the log before its snapshot")

    @property
    def summary(self) -> str:
        said = self.said
        who = f"for purpose {shown(said['purpose'])}, decided at {said['decided_at']} by snapshot {said['snapshot_sha256']}"
        if self.kind == AUDIT:
            return f"an audit {who}: {said['rows']} rows, all allowed; where they come from it does not say"
        lost = ", ".join(f"{reason} {number}" for reason, number in sorted(said["rows_dropped"].items())) or "none"
        what = "run" if self.kind == RUN else "selection, which leaves shards as they are,"
        return f"a {what} {who}: {said['rows_in']} rows in, {said['rows_kept']} kept; dropped: {lost}"


# --- 9 Membership: whether a subject is in a set that the log commits to, without the others ---------------------------------

ROW: Table = {
    "scope": one_of("everything", "category", "content"), "scope_id?": is_id, "no_at?": is_moment, "no_state?": one_of(*NO),
    "no_position?": is_count, "yes_at?": is_moment, "yes_position?": is_count, "yes_accepted?": lambda value: value in (0, 1),
    "yes_expires_at?": is_moment, "yes_content_since?": is_moment, "yes_basis?": one_of(*BASES),
}  # fmt: skip


class Membership:
    """said: what is said of the subject in that set, None where it is not in it. act: what commits to the set."""

    def __init__(self, data: bytes, trust: Trust) -> None:
        require(data.endswith(b"\n"), "a membership document ends with a newline")
        document = from_canonical(data[:-1], MAX_MEMBERSHIP)
        closed(document, {
            "format": one_of("urn:consent-ledger:membership:v1"), "subject_id": is_id, "act": is_document,
            "path?": list_of(is_text), "said?": lambda value: isinstance(value, dict), "blind?": is_text,
            "other?": object_of({"index": is_text, "value": is_text})})  # fmt: skip
        self.subject_id, self.said = document["subject_id"], document.get("said")
        self.receipt = Receipt(document["act"].encode(), trust)
        self.act = self.receipt.document
        require({"subjects_root", "subjects_seed"} <= self.act.keys(), "the act commits to no set of subjects")
        self.of_snapshot = self.act["act"] == "snapshot_compiled"
        path = [from_base64(text, 32) for text in document.get("path", [])]
        require(len(path) <= 256, f"a path of {len(path)} hashes")
        index = sha256(b"consent-ledger/index/v1\n" + bytes.fromhex(self.act["subjects_seed"]) + self.subject_id.encode())
        bits = int.from_bytes(index, "big")
        if self.said is not None:
            require("other" not in document, "a subject that is in the set, and another one in its place")
            require(("blind" in document) == self.of_snapshot, "a blind where none belongs, or none where one does")
            blind = from_base64(document["blind"], 32) if self.of_snapshot else b""
            closed(self.said, {"rows": list_of(object_of(ROW)) if self.of_snapshot else is_positive})
            if self.of_snapshot:
                check_rows(self.said["rows"])
            value = sha256(b"consent-ledger/value/v1\n" + blind + canonical(self.said))
            r = sha256(b"\x10" + index + value)
        else:
            require("blind" not in document, "a blind of a subject that is not in the set")
            r = sha256(b"\x12")
            if "other" in document:
                other, value = from_base64(document["other"]["index"], 32), from_base64(document["other"]["value"], 32)
                depth = 256 - len(path)
                require(other != index and int.from_bytes(other, "big") >> depth == bits >> depth, "the leaf of another place")
                r = sha256(b"\x10" + other + value)
        for depth in range(len(path) - 1, -1, -1):
            sibling = path[depth]
            r = sha256(b"\x11" + (sibling + r if bits >> (255 - depth) & 1 else r + sibling))
        require(r.hex() == self.act["subjects_root"], "the path does not lead to the root that the log commits to")

    @property
    def sentence(self) -> str:
        who = shown(self.subject_id)
        if self.of_snapshot:
            what = f"snapshot {self.act['snapshot_sha256']} for purpose {shown(self.act['purpose'])} as of {self.act['as_of']}"
            if self.said is None:
                return f"{what} holds nothing of {who}: no yes was known"
            return f"{what} holds of {who}: " + "; ".join(_row(row) for row in self.said["rows"])
        what = f"the rows that statement {self.act['statement_sha256']} speaks of"
        return f"among {what}, {'none is' if self.said is None else str(self.said['rows']) + ' are'} of {who}"


def check_rows(rows: list[dict[str, Any]]) -> None:
    """What a snapshot says of a subject: of each scope a no, a yes or both, whole; each scope once, in order."""
    for row in rows:
        require(("scope_id" in row) == (row["scope"] != "everything"), "a row names an item where it has none, or none")
        no = {"no_at", "no_state", "no_position"} & row.keys()
        yes = {"yes_at", "yes_position", "yes_accepted", "yes_basis"} & row.keys()
        terms = {"yes_expires_at", "yes_content_since"} & row.keys()
        require(len(no) in (0, 3) and len(yes) in (0, 4) and (no or yes) and (yes or not terms), "a row that is not whole")
    scopes = ["everything", "category", "content"]
    places = [(scopes.index(row["scope"]), row.get("scope_id", "").encode()) for row in rows]
    require(places == sorted(set(places)), "rows are not in the order of their scopes, or one is there twice")


def _row(row: dict[str, Any]) -> str:
    about = row["scope"] + (f" {shown(row['scope_id'])}" if "scope_id" in row else "")
    no = f"a no ({row.get('no_state')}) of {row['no_at']}" if "no_at" in row else "no no"
    if "yes_at" not in row:
        return f"about {about}: {no}, no yes"
    terms = [] if row.get("yes_accepted") else ["to a version that does not count"]
    terms += [f"until {row['yes_expires_at']}"] if "yes_expires_at" in row else []
    terms += [f"for content since {row['yes_content_since']}"] if "yes_content_since" in row else []
    return f"about {about}: {no}, a yes of {row['yes_at']}" + "".join(f", {term}" for term in terms)


# --- 10 Exports: all that a ledger has of one person, in files. export.json says what each file is ----------------------------

EXPORT: Table = {
    "format": one_of("urn:consent-ledger:export:v1"), "origin": is_text, "subject_id": is_id, "made_at": is_moment,
    "checkpoint": is_document,
    "events?": list_of(object_of({"event": object_of(EVENT), "position": is_count, "receipt": is_text})),
    "acts?": list_of(object_of({"act": lambda value: isinstance(value, dict), "position": is_count, "receipt": is_text})),
    "notices?": list_of(object_of({"sha256": is_sha256, "file": is_text, "text?": lambda value: is_text(value, MAX_NOTICE)})),
    "decisions?": list_of(object_of({"purpose": is_purpose, "category?": is_id, "content_id?": is_id,
                                     "reason": one_of("allowed", *DROPPED), "sentence": is_text})),
    "runs?": list_of(object_of({"statement": is_text, "in_run?": is_text, "in_snapshot?": is_text,
                                "sentences": list_of(lambda value: is_text(value, MAX_EXPORT))})),
    "consistency?": list_of(is_text),
}  # fmt: skip
UNCHECKED = {"export.json", "index.html", "README.txt", "verify.py"}
Say = Callable[[str], None]


class Export:
    """names: of all files. read(name, limit): a file's bytes."""

    def __init__(self, names: set[str], read: Callable[[str, int], bytes], trust: Trust, histories: Histories, say: Say) -> None:
        self._names, self._read, self._trust, self._histories, self._say = names, read, trust, histories, say
        self._used: set[str] = set()

    def file(self, name: str, limit: int) -> bytes:
        require(relative(name) and name in self._names, f"the export lacks the file {shown(name)}")
        self._used.add(name)
        return self._read(name, limit)

    def receipt(self, entry: dict[str, Any], document: str) -> Receipt:
        data = self.file(entry["receipt"], MAX_RECEIPT)
        require(data.endswith(b"\n"), "a receipt's file ends with a newline")
        receipt = Receipt(data[:-1], self._trust)
        same = (receipt.document, receipt.position, receipt.origin) == (entry[document], entry["position"], self.origin)
        require(same and receipt.is_event == (document == "event"), f"{shown(entry['receipt'])} is of something else")
        self._histories.meet(receipt.origin, receipt.size, receipt.roots)
        return receipt

    def check(self) -> None:
        data = self.file("export.json", MAX_EXPORT)
        require(data.endswith(b"\n"), "export.json ends with a newline")
        said = self._said = from_canonical(data[:-1], MAX_EXPORT)
        closed(said, EXPORT)
        self.origin, size, root = self._trust.open_checkpoint(said["checkpoint"])
        require(self.origin == said["origin"], "the export's checkpoint is of another log")
        self._histories.meet(self.origin, size, {size: root})
        self._say(f"the export is of {shown(said['subject_id'])}, made at {said['made_at']} from log {shown(self.origin)}, whose "
                  f"signed checkpoint had {size} entries")  # fmt: skip
        self._events(said.get("events", []), self._acts(said.get("acts", [])))
        for run in said.get("runs", []):
            self._run(run)
        for name in said.get("consistency", []):
            self._histories.join(self.file(name, MAX_RECEIPT), self._trust)
        self._say("NOT checked: that these are all acts of theirs that the log has; that they said themselves what it says; "
                  "what holds now, which is told by the ledger's operator; the words of index.html and README.txt, and the "
                  "sentences of export.json")  # fmt: skip
        if more := sorted(self._names - self._used - UNCHECKED):
            self._say(f"NOT looked at: {len(more)} files that are no part of it, such as {shown(more[0])}")

    def _acts(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for entry in entries:
            self.receipt(entry, "act")
            act = entry["act"]
            if act["act"] == "purpose_declared":
                what = f"purpose {shown(act['token'] + '@' + str(act['version']))}, {shown(act['title'])}"
            elif act["act"] == "notice_declared":
                what = f"notice {shown(act['notice_id'] + '@' + str(act['version']) + '/' + act['language'])}"
            else:
                require(act["act"] == "subject_erased", f"an act {act['act']} is no part of an export")
                what = f"that a person's {len(act['positions'])} acts were erased; that it was this one, nothing here proves"
            self._say(f"the log declared {what}, as entry {entry['position']} at {act['recorded_at']}")
        return [entry["act"] for entry in entries]

    def _events(self, entries: list[dict[str, Any]], acts: list[dict[str, Any]]) -> None:
        purposes = {f"{act['token']}@{act['version']}" for act in acts if act["act"] == "purpose_declared"}
        notices = {(f"{act['notice_id']}@{act['version']}/{act['language']}", act["sha256"])
                   for act in acts if act["act"] == "notice_declared"}  # fmt: skip
        texts = set()
        for notice in self._said.get("notices", []):
            text = self.file(notice["file"], MAX_NOTICE)
            require(sha256(text).hex() == notice["sha256"], f"{shown(notice['file'])} is another text than it is said to be")
            require(notice.get("text", "").encode() in (text, b""), "the text of a notice is another one in export.json")
            texts.add(notice["sha256"])
        positions = [entry["position"] for entry in entries]
        require(positions == sorted(set(positions)), "the events of an export are not in the log's order")
        tags = set()
        for entry in entries:
            receipt, event = self.receipt(entry, "event"), entry["event"]
            require(event["subject_id"] == self._said["subject_id"], "an event of another person")
            tags.add(receipt.tag)
            require(set(event["purposes"]) - {"*"} <= purposes, "an event names a purpose whose declaration is not here")
            if "notice_sha256" in event:
                declared = (event.get("notice"), event["notice_sha256"]) in notices and event["notice_sha256"] in texts
                require(declared, "an event names a notice whose text or declaration is not here")
            self._say(f"{_event(event)}, is {receipt.place}" + (", with the text shown" if "notice_sha256" in event else ""))
        require(len(tags) <= 1, "the events are of several people by their tags")
        for decision in self._said.get("decisions", []):
            require(decision["purpose"] in purposes, "a decision is for a purpose whose declaration is not here")
        if not entries:
            self._say("the export has no act of theirs")

    def _run(self, run: dict[str, Any]) -> None:
        statement = Statement(self.file(run["statement"], MAX_STATEMENT), self._trust)
        require(statement.said["origin"] == self.origin, "a run by the answers of another log")
        self._say(f"{shown(run['statement'])} is {statement.summary}; logged as {statement.logged.place}")
        found = {}
        for name, act in (("in_run", statement.logged.document), ("in_snapshot", statement.snapshot.document)):
            if name not in run:
                committed = "subjects_root" in act
                why = "the log commits to a set of subjects, and the proof was left out"
                why = why if committed else "no set was committed to"
                self._say(f"NOT answered: whether they are in it ({name}): {why}")
                continue
            found[name] = member = Membership(self.file(run[name], MAX_MEMBERSHIP), self._trust)
            require(member.act == act, f"{shown(run[name])} is of another statement or snapshot")
            require(member.subject_id == self._said["subject_id"], f"{shown(run[name])} is of another person")
            self._say(member.sentence)
            self._histories.meet(member.receipt.origin, member.receipt.size, member.receipt.roots)
        for receipt in (statement.snapshot, statement.logged):
            self._histories.meet(receipt.origin, receipt.size, receipt.roots)
        if len(found) == 2 and found["in_run"].said is not None and found["in_snapshot"].said is None:
            self._say("ATTENTION: rows of theirs were kept though the answers that decided hold nothing of them")


def _event(event: dict[str, Any]) -> str:
    about = event.get("content_id", event.get("category"))
    return (f"event {shown(event['event_id'])}, {event['state']} by {shown(event['subject_id'])} for "
            + ", ".join(map(shown, event["purposes"])) + ("" if about is None else f" about {shown(about)}")
            + f", recorded at {event['recorded_at']}")  # fmt: skip


# --- 11 Files, and the command line -------------------------------------------------------------------------------------------


def open_file(path: Path, follow: bool = True) -> IO[bytes]:
    """A regular file; a pipe under its name must not make this wait."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is not a file")
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, limit: int) -> bytes:
    with open_file(path) as file:
        data = file.read(limit + 1)
    require(len(data) <= limit, f"{shown(path.name)} is longer than the {limit} bytes that are allowed")
    return data


def digest_of(path: Path, follow: bool) -> str:
    digest = hashlib.sha256()
    with open_file(path, follow) as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def files_below(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every file; what is a link, or no file, too."""
    folders = [("", root)]
    while folders:
        above, folder = folders.pop()
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                folders.append((f"{above}{path.name}/", path))
            else:
                yield above + path.name, path


def is_aside(name: str, path: Path) -> bool:
    """What stands beside shards and is none: `_SUCCESS`, `.part.crc`. By its end it may be one all the same."""
    if not any(part.startswith(("_", ".")) for part in name.split("/")) or name.lower().endswith(".parquet") or path.is_dir():
        return False
    if not path.is_file():
        return True
    with open_file(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4))
        return file.read(4) not in (b"PAR1", b"PARE")


def check_shards(folder: Path, digests: dict[str, str]) -> None:
    require(folder.is_dir(), f"there is no folder {shown(folder.name)} beside its statement; --signature-only does without")
    above = {name[:at] for name in digests for at, letter in enumerate(name) if letter == "/"}
    found = {}
    for name, path in files_below(folder):
        if name in digests or name in above or not is_aside(name, path):
            require(not path.is_symlink(), f"{shown(name)} is a link: what it leads to can change")
            require(name in digests, f"the folder holds {shown(name)}, which its statement does not name")
            found[name] = path
    for name, digest in digests.items():
        require(name in found, f"the folder lacks {shown(name)}")
        require(digest_of(found[name], False) == digest, f"{shown(name)} is not the shard that the statement names")


def zip_reader(path: Path) -> tuple[set[str], Callable[[str, int], bytes]]:
    """The names in a ZIP, and what reads one, never more than its limit. Unpack one of more than 65,534 files first."""
    with open_file(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 42))
        end = file.read()
    require(end[20:24] == b"PK\5\6" and end[:4] != b"PK\6\7", "not a ZIP of the kind that exports are")
    require(int.from_bytes(end[32:36], "little") <= 32 << 20, "a ZIP whose list of files is too long")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError):
        refuse("the ZIP is damaged")
    listed = {info.filename: info for info in archive.infolist()}
    require(len(listed) == len(archive.infolist()), "a ZIP that holds two files of one name")

    def read(name: str, limit: int) -> bytes:
        info = listed[name]
        require(info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), "a ZIP packed in another way than exports are")
        try:
            with archive.open(info) as file:
                data = file.read(limit + 1)
        except Exception:  # zipfile and zlib have many
            refuse(f"{shown(name)} cannot be unpacked")
        require(len(data) <= limit, f"{shown(name)} is longer than the {limit} bytes that are allowed")
        return data

    return set(listed), read


class Call:
    """One call: whom it trusts, what it was told, what it said."""

    def __init__(self, trust: Trust, signature_only: bool, say: Say) -> None:
        trust.at_the_end = True
        self._trust, self._signature_only, self._print = trust, signature_only, say
        self._histories = Histories()

    def path(self, path: Path) -> None:
        def say(sentence: str) -> None:
            self._print(f"{ascii(str(path))[1:-1]}: {sentence}")

        beside = path.resolve() if path.name in ("", "..") else path
        statement = beside.with_name(beside.name + ".intoto.jsonl")
        if path.is_dir() and not statement.exists() and (path / "export.json").exists():
            paths = dict(files_below(path))
            Export(set(paths), lambda name, limit: read_file(paths[name], limit), self._trust, self._histories, say).check()
        elif path.name.endswith(".zip"):
            Export(*zip_reader(path), self._trust, self._histories, say).check()
        elif path.is_dir() or (not path.exists() and statement.exists()):
            self._statement(statement, path, say)
        elif path.name.endswith(".intoto.jsonl"):
            self._statement(path, path.with_name(path.name[: -len(".intoto.jsonl")]), say)
        elif path.with_name(path.name + ".receipt").exists():
            self._snapshot(path, read_file(path.with_name(path.name + ".receipt"), MAX_RECEIPT), say)
        else:
            self._document(path, say)

    def end(self) -> None:
        self._histories.require_witnessed(self._trust)
        for sentence in self._histories.sentences():
            self._print(sentence)

    def _met(self, receipt: Receipt) -> Receipt:
        self._histories.meet(receipt.origin, receipt.size, receipt.roots)
        return receipt

    def _statement(self, path: Path, folder: Path, say: Say) -> None:
        statement = Statement(read_file(path, MAX_STATEMENT), self._trust)
        say(f"it is signed by a run key that you trust: {statement.summary}")
        say(f"its snapshot is {self._met(statement.snapshot).place}")
        say(f"it is {self._met(statement.logged).place}")
        if self._signature_only:
            say(f"NOT looked at: its {len(statement.digests)} shards")
        else:
            check_shards(folder, statement.digests)
            say(f"the folder holds exactly the {len(statement.digests)} shards that it names, byte for byte")
        say("NOT checked: whether the rows were decided rightly; that takes the ledger (`consent audit`)")

    def _snapshot(self, path: Path, data: bytes, say: Say) -> None:
        require(data.endswith(b"\n"), "a receipt's file ends with a newline; it may be cut short")
        receipt = self._met(open_act(data[:-1], self._trust, "snapshot_compiled"))
        act = receipt.document
        say(f"snapshot {act['snapshot_sha256']} for purpose {shown(act['purpose'])}, of the log's first {act['tree_size']} "
            f"entries as of {act['as_of']}, is {receipt.place}")  # fmt: skip
        if self._signature_only:
            say("NOT looked at: the snapshot's file")
        else:
            require(digest_of(path, True) == act["file_sha256"], "the snapshot is not the file that its receipt speaks of")
            say("the file is the one that the log names, byte for byte")

    def _document(self, path: Path, say: Say) -> None:
        data = read_file(path, MAX_MEMBERSHIP)
        require(data.endswith(b"\n"), "nothing that can be verified, or it is cut short: it does not end with a newline")
        kind = from_canonical(data[:-1], MAX_MEMBERSHIP).get("format")
        if kind == "urn:consent-ledger:membership:v1":
            member = Membership(data, self._trust)
            self._met(member.receipt)
            say(member.sentence)
            return
        receipt = self._met(Receipt(data[:-1], self._trust))
        if receipt.is_event:
            say(f"{_event(receipt.document)}, is {receipt.place}")
        elif path.name.endswith(".receipt") and receipt.document["act"] == "snapshot_compiled":
            self._snapshot(path.with_name(path.name[: -len(".receipt")]), data, say)
        else:
            say(f"an act {receipt.document['act']} of {receipt.document['recorded_at']} is {receipt.place}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trust", required=True, type=Path, help="the keys that you trust, from elsewhere than what you check")
    parser.add_argument("--signature-only", action="store_true", help="do without shards and snapshots' files")
    parser.add_argument("paths", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    paths = options.paths or [Path(__file__).resolve().parent]
    if not options.paths and not (paths[0] / "export.json").exists():
        parser.error("name what to check: this file does not lie in an export")
    try:
        trust = Trust(text_of(read_file(options.trust, MAX_TRUST)))
        call = Call(trust, options.signature_only, print)
        for path in paths:
            call.path(path)
        call.end()
    except OSError as error:
        print(f"COULD NOT BE READ: {shown(str(error))}; nothing is known", file=sys.stderr)
        return 1
    except Refused as error:
        print(f"DOES NOT VERIFY: {error}", file=sys.stderr)
        return 4
    except Exception as error:  # whatever else foreign bytes may cause
        print(f"DOES NOT VERIFY: it cannot be understood ({type(error).__name__})", file=sys.stderr)
        return 4
    print("VERIFIED, but for what is said to be NOT")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
