"""How often one address may bring a token that leads nowhere. Good ones are always answered: mailbox providers bring those of
thousands from one address."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

FAILURES = 30
"""At once; and as many a minute."""
ADDRESSES = 10_000
"""That are remembered; of more, those that failed longest ago are forgotten."""


class FailedTokens:
    """Of each address how many failures it may still have; they come back at an even rate. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Seconds until it may fail again; 0: now."""
        return max(0, math.ceil((1 - self._now(network(address))) * 60 / FAILURES))

    def failed(self, address: str) -> None:
        of = network(address)
        self._left[of] = (max(0.0, self._now(of) - 1), self._clock())
        self._left.move_to_end(of)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)

    def _now(self, of: str) -> float:
        left, at = self._left.get(of, (float(FAILURES), self._clock()))
        return min(float(FAILURES), left + (self._clock() - at) * FAILURES / 60)


def network(address: str) -> str:
    """What counts as one address: of IPv6 the /64, which one household or server has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
