"""Who asks: `Authorization: Bearer KEY`, and nothing else. It is decided before anything else of a request is looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request

from ledger import api_keys
from ledger.api_keys import ApiKey
from ledger.errors import ConsentLedgerError
from ledger.web.refusals import SECONDS, Refused


def needs(scope: str) -> Callable[[Request], Awaitable[ApiKey]]:
    """A dependency: the key of a request, which has this scope. Raises Refused."""

    async def check(request: Request) -> ApiKey:
        key = _key(request)
        if scope not in key.scopes:
            raise Refused(
                403,
                f"this needs a key with the scope {scope}",
                "the ledger's operator makes one: consent key add-api NAME --scope " + scope,
                {"www-authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            )
        return key

    return check


def _key(request: Request) -> ApiKey:
    given = request.headers.getlist("authorization")
    scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    found = None
    if scheme.lower() == "bearer" and key:
        try:
            found = api_keys.find(request.app.state.service.book.folder.path, key)
        except ConsentLedgerError as error:  # it names a path of this machine, and nobody is known to be allowed to hear that
            raise Refused(
                503,
                "the server cannot read its API keys, so that nobody is let in",
                "its operator is told why by: consent key list-api",
                {"retry-after": SECONDS},
            ) from error
    if found is None:
        raise Refused(
            401,
            "this needs a key of this ledger's API that was not ended",
            "send it as the header Authorization: Bearer KEY",
            {"www-authenticate": "Bearer"},
        )
    return found
