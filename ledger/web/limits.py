"""How often one address may bring a token that leads nowhere. Good ones are always answered: mailbox providers bring those of
thousands from one address."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request

FAILURES = 30
"""At once; and as many a minute."""
ADDRESSES = 10_000
"""That are remembered; of more, those that failed longest ago are forgotten."""


class FailedTokens:
    """Of each address how many failures it may still have; they come back at an even rate. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def failed(self, address: str) -> int:
        """Count one more. 0, or where there were too many the seconds until it may fail again."""
        of = network(address)
        left = self._now(of)
        self._left[of] = (left - 1 if left >= 1 else left, self._clock())
        self._left.move_to_end(of)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        return 0 if left >= 1 else math.ceil((1 - left) * 60 / FAILURES)

    def leads_nowhere(self, request: Request) -> HTTPException:
        """Count one more, and what answers it: 404, or 429 where there were too many."""
        wait = self.failed(address_of(request))
        return HTTPException(429, headers={"retry-after": str(wait)}) if wait else HTTPException(404)

    def _now(self, of: str) -> float:
        left, at = self._left.get(of, (float(FAILURES), self._clock()))
        return min(float(FAILURES), left + (self._clock() - at) * FAILURES / 60)


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def network(address: str) -> str:
    """What counts as one address: of IPv6 the /64, which one household or server has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
