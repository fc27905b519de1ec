"""How often people said yes and no, over time: in bounded memory, whatever the log's length and span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ledger import times

MAX_POINTS = 240
_FIRST = times.micros(datetime.min.replace(tzinfo=UTC))


@dataclass
class Timeline:
    """Yeses and noes by time, in any order: one point for each `width` microseconds in which there was something. Where there
    are too many points, the width doubles.

    points: start of the span in units of the width, since 1970 -> yeses, noes. yes, no: in all.
    """

    points: dict[int, list[int]] = field(default_factory=dict)
    width: int = 1
    yes: int = 0
    no: int = 0

    def add(self, at: datetime, yes: bool) -> None:
        self.points.setdefault(times.micros(at) // self.width, [0, 0])[0 if yes else 1] += 1
        self.yes, self.no = self.yes + yes, self.no + (not yes)
        while len(self.points) > MAX_POINTS:
            self._widen()

    def sums(self) -> Sequence[tuple[datetime, int, int]]:
        """(start of the span, yeses up to its end, noes up to its end), in order."""
        yes = no = 0
        found = []
        for start in sorted(self.points):
            yes, no = yes + self.points[start][0], no + self.points[start][1]
            found.append((times.from_micros(max(start * self.width, _FIRST)), yes, no))
        return found

    def _widen(self) -> None:
        self.width *= 2
        wider: dict[int, list[int]] = {}
        for start, (yes, no) in self.points.items():
            point = wider.setdefault(start // 2, [0, 0])
            point[0] += yes
            point[1] += no
        self.points = wider
