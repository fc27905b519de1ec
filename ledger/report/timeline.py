"""How many acts the ledger had heard of, over time: in bounded memory, whatever the log's length and span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger import times

MAX_POINTS = 240


@dataclass
class Timeline:
    """Yeses and noes in the order of their recording, which never runs backwards: one point for each `width` microseconds in
    which something was recorded. Where there are too many points, the width doubles.

    points: start of the span in microseconds since 1970, yeses, noes.
    """

    points: list[list[int]] = field(default_factory=list)
    width: int = 1
    yes: int = 0
    no: int = 0

    def add(self, recorded_at: datetime, yes: bool) -> None:
        start = times.micros(recorded_at) // self.width * self.width
        if not self.points or self.points[-1][0] != start:
            self.points.append([start, 0, 0])
        self.points[-1][1 if yes else 2] += 1
        self.yes, self.no = self.yes + yes, self.no + (not yes)
        while len(self.points) > MAX_POINTS:
            self._widen()

    def sums(self) -> Sequence[tuple[datetime, int, int]]:
        """(end of the span, yeses up to there, noes up to there)."""
        yes = no = 0
        found = []
        for start, more, fewer in self.points:
            yes, no = yes + more, no + fewer
            found.append((times.from_micros(start + self.width - 1), yes, no))
        return found

    def _widen(self) -> None:
        self.width *= 2
        wider: list[list[int]] = []
        for start, yes, no in self.points:
            start = start // self.width * self.width
            if wider and wider[-1][0] == start:
                wider[-1][1] += yes
                wider[-1][2] += no
            else:
                wider.append([start, yes, no])
        self.points = wider
