"""A snapshot from a server of a team's ledger, verified before it gets its name.

> The server is not trusted: what counts is the receipt, by the trust file that is here.

- What the server sends is bounded: bytes, seconds, redirects (see `download`). Nothing that stands here is touched before what
  came was verified, its age included; and it is never replaced by the answers of an earlier point of the log.
"""

from __future__ import annotations

import re
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ledger import download, snapshots, times
from ledger.consent import split_purpose
from ledger.errors import ConsentLedgerError, IntegrityError, SnapshotError, UsageError
from ledger.log.trust import Trust
from ledger.snapshot import MAX_AGE, Snapshot, open_snapshot
from ledger.statements.limits import LIMITS
from ledger.statements.verify import load_trust

MAX_BYTES = 8 << 30
"""Of a snapshot: it is held in memory to be verified."""
STALLED_SECONDS = 30
MAX_SECONDS = 3600
_KEY = re.compile(r"[!-~]{1,512}")
_WHY = {
    401: ("the server does not know this API key", "ask its operator for one with the scope read: consent key add-api"),
    403: ("this API key may not read", "ask the server's operator for one with the scope read: consent key add-api"),
    404: ("the server has no such snapshot", "one is made there by POST /v1/snapshots; look at the URL's last part, the purpose"),
    503: ("the server is busy or out of order", "try again in a moment"),
}


def fetch_snapshot(
    url: str,
    output: str | Path,
    *,
    trust: str | Path | Trust,
    purpose: str | None = None,
    max_age: timedelta = MAX_AGE,
    key: str | None = None,
) -> Snapshot:
    """Download the snapshot that a URL leads to, and its receipt, to a file and FILE.receipt.

    url: as in https://consent.example.org/v1/snapshots/train-ai. key: of the server's API. purpose, max_age: as of
    `load_snapshot`, whose errors this raises too; ConsentLedgerError where the server cannot be reached or refuses.
    """
    trust, output = trust if isinstance(trust, Trust) else load_trust(trust), Path(output)
    if output.is_dir():
        raise UsageError(f"{output} is a folder", hint="name the file to write, as in -o answers.parquet")
    if key is not None and not _KEY.fullmatch(key):
        raise UsageError("this is no API key", hint="it is what `consent key add-api` printed, without spaces or line ends")
    url = download.checked(url, "a snapshot", "https://consent.example.org/v1/snapshots/train-ai")
    wanted, sha256 = _wanted(url)
    if not (purpose or wanted or sha256):
        raise UsageError("this URL does not say what it leads to", hint="say which purpose it must be of, with --purpose TOKEN")
    ends = time.monotonic() + MAX_SECONDS
    data, at = _get(url, key, MAX_BYTES, ends)
    parts = urlsplit(at)
    beside = urlunsplit(parts._replace(path=parts.path + ".receipt"))
    receipt, _ = _get(beside, key, LIMITS.receipt, ends)
    fetched = open_snapshot(output, receipt, data, trust=trust, purpose=purpose, max_age=max_age, now=times.now())
    if wanted not in (None, fetched.purpose, split_purpose(fetched.purpose)[0]) or sha256 not in (None, fetched.sha256):
        raise SnapshotError(
            f"the server hands out {fetched.purpose} with the digest {fetched.sha256}, which is not what {url:.200} asks for",
            hint="its answers are not those to your question: whoever runs that server must look after it",
        )
    snapshots.put(output, data, receipt, sweep=False, check=lambda: _require_newer(output, receipt, trust))
    return fetched


def _require_newer(output: Path, receipt: bytes, trust: Trust) -> None:
    """Raises SnapshotError where the file that is there knows more of the same log: a no may be in that alone."""
    try:
        there = snapshots.told(output, trust)
    except ConsentLedgerError:
        return  # no snapshot that counts
    new = snapshots.tell(output, receipt, trust)
    same = split_purpose(there.purpose)[0] == split_purpose(new.purpose)[0] and there.origin == new.origin
    if same and there.age_order > new.age_order:
        raise SnapshotError(
            f"the server's snapshot is older than {output}: of {new.tree_size} entries, as of {times.text(new.as_of)}",
            hint="an earlier one was put in its place there, or made as of then; to take it all the same, move yours away",
        )


def _wanted(url: str) -> tuple[str | None, str | None]:
    """(purpose, digest) that a URL of the API asks for: an answer to another question would let other rows pass."""
    *_, before, kind, last = ["", "", *urlsplit(url).path.split("/")]
    if (before, kind) != ("v1", "snapshots"):
        return None, None
    if found := re.fullmatch(r"([0-9a-f]{64})\.parquet", last):
        return None, found[1]
    return unquote(last, errors="strict") or None, None


def _get(url: str, key: str | None, limit: int, ends: float) -> tuple[bytes, str]:
    """The body, and the URL that it came from in the end."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        answer = download.ask(url, limit=limit, ends=ends, stalled=STALLED_SECONDS, headers=headers)
    except IntegrityError:
        raise
    except ConsentLedgerError as error:
        raise ConsentLedgerError(
            f"the snapshot could not be fetched: {error}", hint=f"{error.hint}; nothing was changed here"
        ) from error
    if answer.status != 200:
        why, hint = _WHY.get(answer.status, (f"the server answers {answer.status}", "look at the URL"))
        raise ConsentLedgerError(why, hint=hint)
    return answer.body, answer.url
