"""Yes and no over time, as SVG: two lines that only rise, told apart by their dashes and words as well as by colour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil, log10

from ledger.report.facts import Acts
from ledger.report.words import count, day

WIDTH, HEIGHT = 440, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 352, 34, 200
_LABEL = 15
"""Between two labels, so that they can be read."""


def over_time(acts: Acts, key: str) -> str:
    """The picture; its figures stand in a table beside it. key: tells its parts from those of other charts on the page."""
    sums = acts.timeline.sums()
    first = min([at for at, _, _ in sums] + [at for at, _, _ in acts.frozen.values()])
    last = max([at for at, _, _ in sums] + [at for at, _, _ in acts.frozen.values()])
    if first == last:
        first, last = first - timedelta(seconds=1), last + timedelta(seconds=1)
    top = _round_up(max(acts.timeline.yes, acts.timeline.no, 1))

    def x(at: datetime) -> float:
        return _LEFT + (_RIGHT - _LEFT) * ((at - first) / (last - first))

    def y(number: int) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * number / top

    parts = [
        f'<svg class="time" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{key}-title {key}-text">',
        f'<title id="{key}-title">Yes and no over time</title>',
        f'<desc id="{key}-text">By the end {count(acts.timeline.yes)} times yes and {count(acts.timeline.no)} times no. '
        "The table below has the numbers.</desc>",
    ]
    for number in (0, top // 2, top) if top > 1 else (0, top):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y(number):.1f}" y2="{y(number):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(number) + 4:.1f}" text-anchor="end">{_short(number)}</text>')
    labels = (day(first), day(last)) if day(first) != day(last) else (f"{first:%H:%M:%S}", f"{last:%H:%M:%S} UTC, {day(last)}")
    parts.append(f'<text x="{_LEFT}" y="{_BOTTOM + 20}">{labels[0]}</text>')
    parts.append(f'<text x="{_RIGHT}" y="{_BOTTOM + 20}" text-anchor="end">{labels[1]}</text>')
    for at in sorted({at for at, _, _ in acts.frozen.values()}):
        parts.append(f'<line class="mark" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{_TOP - 10}" y2="{_BOTTOM}"/>')
    if acts.frozen:
        at = max(at for at, _, _ in acts.frozen.values())
        anchor = "start" if x(at) < 150 else "end" if x(at) > 300 else "middle"
        parts.append(f'<text class="mark" x="{x(at):.1f}" y="{_TOP - 16}" text-anchor="{anchor}">answers frozen</text>')
    ends = {"no": y(acts.timeline.no), "yes": y(acts.timeline.yes)}
    places = _apart(ends["yes"], ends["no"])
    for word, numbers in (("no", [no for _, _, no in sums]), ("yes", [yes for _, yes, _ in sums])):
        points = [(x(first), y(0))]
        for (at, _, _), number in zip(sums, numbers, strict=True):
            points += [(x(at), points[-1][1]), (x(at), y(number))]
        points.append((x(last), points[-1][1]))
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
        parts.append(f'<polyline class="{word}" points="{path}"/>')
        parts.append(f'<text class="{word}" x="{_RIGHT + 8}" y="{places[word] + 4:.1f}">{word} {_short(numbers[-1])}</text>')
    return "".join([*parts, "</svg>"])


def table(acts: Acts, rows: int = 12) -> Sequence[tuple[datetime, int, int]]:
    """(moment, yeses, noes until then), some of the chart's points, the last among them."""
    sums = acts.timeline.sums()
    step = max(1, ceil(len(sums) / rows))
    return sums[::-1][::step][::-1]


def _apart(yes: float, no: float) -> dict[str, float]:
    middle, gap = (yes + no) / 2, max(abs(yes - no), _LABEL) / 2
    return {"yes": middle - gap, "no": middle + gap} if yes <= no else {"yes": middle + gap, "no": middle - gap}


def _round_up(number: int) -> int:
    """An axis ends at 1, 2 or 5 times a power of ten."""
    power: int = 10 ** int(log10(number))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= number)


def _short(number: int) -> str:
    for unit, size in (("bn", 10**9), ("m", 10**6), ("k", 10**4)):
        if number >= size:
            return f"{number / (1000 if unit == 'k' else size):.3g} {unit}"
    return count(number)
