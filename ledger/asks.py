"""Ask links: a person whom the host application has logged in is asked, and may answer yes or no for a short while.

Two tokens (`ledger.tokens`), each of a use of its own, so that no other link of the ledger opens as one of them:

- The link names a subject, the purposes that are asked, when it runs out, and where the person came from.
- A form is one purpose as one page showed it: by which link, in which version and language, the digest of the text, how many
  entries the log had, and a number used once. A yes is only what such a form says; a no needs none.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from ledger import times, tokens
from ledger.consent import check_id
from ledger.errors import UsageError

if TYPE_CHECKING:
    from ledger.book import Ledger

VALID = timedelta(minutes=15)
MAX_VALID = timedelta(hours=24)
MAX_PURPOSES = 20
_USE, _FORM_USE = "ask", "ask form"
_ORIGIN = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::([1-9][0-9]{0,4}))?")
_REST = re.compile(r"(?:[/?#][!#-;=?-\[\]_a-z~]*)?")  # printable ASCII that needs no escaping in an address
_LOOPBACK = ("localhost", "127.0.0.1")
_DEFAULT_PORTS = {"https": "443", "http": "80"}


@dataclass(frozen=True, kw_only=True)
class Ask:
    """purposes: tokens, which mean the version that stands when they are shown."""

    subject_id: str
    purposes: Sequence[str]
    expires_at: datetime
    return_url: str | None = None

    def seal(self, keys: Sequence[bytes], origin: str) -> str:
        """Raises UsageError for what a token has no room for."""
        fields = [str(times.micros(self.expires_at)), self.subject_id, self.return_url or "", *self.purposes]
        try:
            return tokens.seal("\0".join(fields), keys, origin=origin, use=_USE)  # none of them may hold a NUL
        except ValueError as error:
            raise UsageError("so much does not fit into one link", hint="ask for fewer purposes at once") from error

    @classmethod
    def open(cls, token: str, keys: Sequence[bytes], origin: str) -> Ask:
        """Raises VerificationError."""
        expires, subject_id, return_url, *purposes = tokens.unseal(token, keys, origin=origin, use=_USE).split("\0")
        moment = times.from_micros(int(expires))
        return cls(subject_id=subject_id, purposes=tuple(purposes), expires_at=moment, return_url=return_url or None)


@dataclass(frozen=True, kw_only=True)
class Form:
    """link: the digest of the ask link's token. purpose: token@version. shown: the digest of the notice's text. seen: how many
    entries the log had. nonce: makes each form one of its own."""

    link: str
    purpose: str
    language: str
    shown: str
    seen: int
    nonce: str

    def seal(self, keys: Sequence[bytes], origin: str) -> str:
        fields = [self.link, self.purpose, self.language, self.shown, str(self.seen), self.nonce]
        return tokens.seal("\0".join(fields), keys, origin=origin, use=_FORM_USE)

    @classmethod
    def open(cls, token: str, keys: Sequence[bytes], origin: str) -> Form:
        """Raises VerificationError."""
        text = tokens.unseal(token, keys, origin=origin, use=_FORM_USE)
        link, purpose, language, shown, seen, nonce = text.split("\0")
        return cls(link=link, purpose=purpose, language=language, shown=shown, seen=int(seen), nonce=nonce)

    @property
    def event_id(self) -> str:
        """Of the yes that this form can say once."""
        fields = "\0".join([self.link, self.purpose, self.language, self.shown, str(self.seen), self.nonce])
        return "ask:" + sha256(fields.encode()).hexdigest()


def new_form(link_token: str, *, purpose: str, language: str, shown: str, seen: int) -> Form:
    return Form(link=digest(link_token), purpose=purpose, language=language, shown=shown, seen=seen, nonce=secrets.token_hex(16))


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def mint(
    book: Ledger,
    subject_id: str,
    purposes: Sequence[str],
    *,
    url: str,
    valid: timedelta = VALID,
    return_url: str | None = None,
) -> str:
    """The address of a page that asks this subject for these purposes, each by itself.

    Whoever opens it can answer as that person: hand it to nobody else, and only once you know who is there.

    url: where `consent serve` is reached; empty: the address is from that server's root. return_url: shown at the page's end,
    where its origin may embed the page.
    Raises UsageError.
    """
    check_id("subject_id", subject_id)
    if isinstance(purposes, str) or not 1 <= len(purposes) <= MAX_PURPOSES or len(set(purposes)) != len(purposes):
        raise UsageError(f"an ask names 1 to {MAX_PURPOSES} purposes, each once")
    declared = {purpose.token for purpose in book.purposes()}
    for token in purposes:
        if token not in declared:
            known = ", ".join(sorted(declared)) or "none yet"
            raise UsageError(
                f"purpose {token!r:.80} is not declared", hint=f"declared: {known}; a purpose is asked for without a version"
            )
    if not timedelta(0) < valid <= MAX_VALID:
        raise UsageError("an ask link is valid for at most 24h", hint="make it when the person is there: it need not last")
    if return_url is not None:
        origin_of(return_url)
    base = url.rstrip("/")
    if base:
        origin_of(base)
    ask = Ask(subject_id=subject_id, purposes=tuple(purposes), expires_at=times.now() + valid, return_url=return_url)
    return f"{base}/ask/{ask.seal(book.folder.link_keys(), book.origin)}"


def site_of(text: str) -> str:
    """An origin, and nothing after it. Raises UsageError."""
    origin_of(text)
    if not _ORIGIN.fullmatch(text):
        raise UsageError(f"{text!r:.120} is more than the origin of a site", hint="without a path, as in https://app.example.org")
    return origin_of(text)


def origin_of(url: str) -> str:
    """Of an address that begins with https, or with http on this machine alone. Raises UsageError."""
    found = _ORIGIN.match(url)
    if found is None or len(url) > 500 or not _REST.fullmatch(url, found.end()):
        raise UsageError(f"{url!r:.120} is no address of a site", hint="as in https://app.example.org, in lower case and ASCII")
    scheme, host, port = found.groups()
    if scheme == "http" and host not in _LOOPBACK:
        raise UsageError(f"{url!r:.120} does not begin with https", hint="http is for localhost and 127.0.0.1 alone")
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS[scheme] else "")
