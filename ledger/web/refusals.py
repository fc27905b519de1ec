"""What the API answers where it does not do what was asked: one JSON object of `error` and `hint`, by what went wrong.

- 401 and 403 are decided before anything that was asked is looked at, and are the same whatever it was.
- 5xx: nothing is known, and no consent may be concluded. Where an act was recorded before something failed, `error` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from ledger.errors import ConsentLedgerError, EventConflict, IntegrityError, LedgerBusy, UsageError

PREFIX = "/v1/"
SECONDS = "5"
"""After which it may be tried again."""
_PLAIN = {404: "there is nothing here", 405: "this path does not take that method"}


class Refused(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, status: int, error: str, hint: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.hint, self.headers = status, error, hint, headers


def concerns(scope: Mapping[str, Any]) -> bool:
    """Whether a request is one of the API."""
    return str(scope["path"]).startswith(PREFIX)


def answer(request: Request, error: Exception) -> Response:
    """The answer to a Refused, an HTTPException of the router, or an error of the ledger."""
    if isinstance(error, ConsentLedgerError):
        error = _of_ledger(error)
    elif isinstance(error, HTTPException):
        headers = {"allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
        error = Refused(
            error.status_code, _PLAIN.get(error.status_code, "it cannot be answered"), "see /v1/openapi.json", headers
        )
    assert isinstance(error, Refused)
    return written(error.status, error.error, error.hint, error.headers)


def written(status: int, error: str, hint: str | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """schemas/error.json."""
    return JSONResponse({"error": error} | ({"hint": hint} if hint else {}), status, headers)


def _of_ledger(error: ConsentLedgerError) -> Refused:
    if isinstance(error, LedgerBusy):
        return Refused(503, str(error), error.hint, {"retry-after": SECONDS})
    if isinstance(error, IntegrityError):
        return Refused(500, f"integrity failure: {error}", error.hint)
    if isinstance(error, EventConflict):
        return Refused(409, str(error), error.hint)
    if isinstance(error, UsageError):
        return Refused(422, str(error), error.hint)
    return Refused(503, str(error), error.hint, {"retry-after": SECONDS})


def _methods(request: Request) -> list[str]:
    """All that the path takes: the router knows those of one route alone."""
    fitting = [route for route in request.app.state.api_routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in fitting for method in getattr(route, "methods", None) or ()})
