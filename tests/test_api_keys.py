"""Keys of the HTTP API: told once, kept as digests, ended for good; a file that is not whole lets nobody in."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import api_keys
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError

BROKEN: list[bytes] = [
    b"",
    b"\n",
    b"{}\n",
    b"null\n",
    b'"record"\n',
    b"\xff\n",
    b"[" * 50_000,
    b'{"name": "a", "sha256": "', 
    b'{"name": "a", "sha256": 5, "scopes": ["record"], "created": "2026-01-01T00:00:00.000000Z"}\n',
    b'{"name": "a", "sha256": "00", "scopes": ["record"], "created": "2026-01-01T00:00:00.000000Z"}\n',
    b'{"name": "a", "sha256": "%s", "scopes": ["all"], "created": "2026-01-01T00:00:00.000000Z"}\n' % (b"0" * 64),
    b'{"name": "a", "sha256": "%s", "scopes": "record", "created": "2026-01-01T00:00:00.000000Z"}\n' % (b"0" * 64),
    b'{"name": "a", "sha256": "%s", "scopes": [], "created": "2026-01-01T00:00:00.000000Z", "more": 1}\n' % (b"0" * 64),
]  # fmt: skip


def test_a_key_is_told_once_and_kept_as_a_digest(book: ledger.Ledger, consent: Callable[..., Any]) -> None:
    folder = book.folder.path
    made = consent("--ledger", folder, "key", "add-api", "crm", "--scope", "record", "--scope", "read")
    key = made.out.strip()
    assert made.code == 0 and key.startswith("cl_") and len(key) == 46
    assert key not in made.err
    assert stat.S_IMODE((folder / "api.keys").stat().st_mode) == 0o600
    assert key.encode() not in (folder / "api.keys").read_bytes()
    found = api_keys.find(folder, key)
    assert found is not None
    assert (found.name, found.scopes, found.recorded_by) == ("crm", ("record", "read"), "api:crm")
    assert api_keys.find(folder, key[:-1]) is None
    assert api_keys.find(folder, "") is None
    listed = consent("--ledger", folder, "key", "list-api").out
    assert listed.startswith("crm  record,read  since 20") and key not in listed


def test_an_ended_key_opens_nothing_and_its_name_stays_taken(book: ledger.Ledger, consent: Callable[..., Any]) -> None:
    folder = book.folder.path
    key, other = api_keys.add(folder, "crm", ["record"]), api_keys.add(folder, "shop", ["read"])
    assert consent("--ledger", folder, "key", "end-api", "crm").err.startswith("crm: ended")
    assert consent("--ledger", folder, "key", "end-api", "crm").err.startswith("crm: was ended before")
    assert api_keys.find(folder, key) is None
    assert api_keys.find(folder, other) is not None
    again = consent("--ledger", folder, "key", "add-api", "crm", "--scope", "record")
    assert again.code == 2 and "is or was called crm" in again.err and again.out == ""
    assert consent("--ledger", folder, "key", "end-api", "nobody").code == 2
    assert "ended 20" in consent("--ledger", folder, "key", "list-api").out


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "-a", "ä", "x" * 101, "../a", "a:b"])
def test_what_is_no_name(book: ledger.Ledger, name: str) -> None:
    with pytest.raises(UsageError):
        api_keys.add(book.folder.path, name, ["record"])


def test_a_key_without_a_scope_or_with_another_is_none(book: ledger.Ledger) -> None:
    for scopes in ([], ["all"], ["record", "all"]):
        with pytest.raises(UsageError):
            api_keys.add(book.folder.path, "crm", scopes)
    assert api_keys.listed(book.folder.path) == []


@pytest.mark.parametrize("content", BROKEN)
def test_a_file_that_is_not_whole_lets_nobody_in(book: ledger.Ledger, content: bytes) -> None:
    folder = book.folder.path
    key = api_keys.add(folder, "crm", ["record"])
    whole = (folder / "api.keys").read_bytes()
    for broken in (content, content + whole, whole + content):
        if broken == whole:
            continue
        (folder / "api.keys").write_bytes(broken)
        if broken == b"":
            assert api_keys.find(folder, key) is None
            continue
        with pytest.raises(IntegrityError):
            api_keys.find(folder, key)
        with pytest.raises(IntegrityError):
            api_keys.add(folder, "more", ["record"])
        assert (folder / "api.keys").read_bytes() == broken


def test_every_cut_and_every_name_that_is_there_twice(book: ledger.Ledger) -> None:
    folder = book.folder.path
    key = api_keys.add(folder, "crm", ["record"])
    api_keys.end(folder, "crm")
    whole = (folder / "api.keys").read_bytes()
    for length in range(len(whole) - 1):
        (folder / "api.keys").write_bytes(whole[:length])
        with contextlib.suppress(IntegrityError):
            assert api_keys.find(folder, key) is None, whole[:length]
    fields = json.loads(whole)
    del fields["ended"]
    (folder / "api.keys").write_bytes(whole + json.dumps(fields).encode() + b"\n")
    with pytest.raises(IntegrityError):
        api_keys.find(folder, key)


def test_a_file_that_others_may_read_lets_nobody_in(book: ledger.Ledger) -> None:
    key = api_keys.add(book.folder.path, "crm", ["record"])
    (book.folder.path / "api.keys").chmod(0o640)
    with pytest.raises(ConsentLedgerError, match="open to other users"):
        api_keys.find(book.folder.path, key)


def test_keys_made_at_once_are_all_there(book: ledger.Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda n: api_keys.add(book.folder.path, f"k{n}", ["read"]), range(40)))
    assert len({(api_keys.find(book.folder.path, key) or pytest.fail("lost")).name for key in keys}) == 40


def test_the_file_never_grows_beyond_what_is_read(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "_MAX_BYTES", 500)
    first = api_keys.add(book.folder.path, "k0", ["read"])
    with pytest.raises(ConsentLedgerError, match="too large"):
        for n in range(1, 10):
            api_keys.add(book.folder.path, f"k{n}", ["read"])
    assert api_keys.find(book.folder.path, first) is not None


def test_a_moved_ledger_takes_its_keys_along(book: ledger.Ledger, tmp_path: Path) -> None:
    key = api_keys.add(book.folder.path, "crm", ["record"])
    ledger.copy(book.folder.path, tmp_path / "new")
    assert api_keys.find(tmp_path / "new", key) is not None
    assert stat.S_IMODE((tmp_path / "new" / "api.keys").stat().st_mode) == 0o600
