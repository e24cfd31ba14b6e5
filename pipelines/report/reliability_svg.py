"""A reliability curve as SVG: what scores promise against how often they are right.

Written by hand, so that no plotting library is needed; every browser shows it.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from stages.clear.reliability import Bin, Reliability

SIDE: Final = 300  # of a square plot, in pixels
_LEFT, _TOP, _GAP = 60, 62, 70
_COUNTS: Final = 58  # from the lower edge of the plot to the numbers of rows
_LETTER: Final = 12  # the least distance of two numbers that are written upwards
_TICKS: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def reliability_svg(title: str, panels: Mapping[str, Reliability]) -> str:
    """One plot for each of `panels`, side by side, under their names and calibration errors.

    A point is a bin: its mean score to the right, its share of true labels upwards, its number of
    rows below. On the diagonal scores are what they promise. An axis of scores that are no
    probabilities goes from the least to the greatest mean.
    """
    width = _LEFT + len(panels) * (SIDE + _GAP)
    height = _TOP + SIDE + _COUNTS + 52
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for number, (name, figures) in enumerate(panels.items()):
        left = _LEFT + number * (SIDE + _GAP)
        parts += [f'<g transform="translate({left} {_TOP})">', *_panel(name, figures), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(name: str, figures: Reliability) -> list[str]:
    error = figures.error
    told = "no probability" if error is None else f"expected calibration error {error:.3f}"
    low, high = (0.0, 1.0) if error is not None else _range(figures.bins)
    xs = [(one.mean - low) / (high - low) * SIDE for one in figures.bins]
    ys = [(1 - one.true) * SIDE for one in figures.bins]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    diagonal = f'<line x1="0" y1="{SIDE}" x2="{SIDE}" y2="0" stroke="#999" stroke-dasharray="4"/>'
    return [
        f'<text x="0" y="-14">{escape(name)}: {told}</text>',
        *_axes(low, high),
        *([diagonal] if error is not None else []),
        f'<polyline points="{points}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>',
        *map(_point, figures.bins, xs, ys),
        *_row_counts(figures.bins, xs),
    ]


def _axes(low: float, high: float) -> list[str]:
    middle = SIDE / 2
    parts = [f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="#333"/>']
    for tick in _TICKS:
        at, up = tick * SIDE, (1 - tick) * SIDE
        score = low + tick * (high - low)
        parts += [
            f'<line x1="{at:.1f}" y1="{SIDE}" x2="{at:.1f}" y2="{SIDE + 4}" stroke="#333"/>',
            f'<text x="{at:.1f}" y="{SIDE + 16}" text-anchor="middle">{score:.3g}</text>',
            f'<line x1="-4" y1="{up:.1f}" x2="0" y2="{up:.1f}" stroke="#333"/>',
            f'<text x="-7" y="{up + 4:.1f}" text-anchor="end">{tick:.1f}</text>',
        ]
    below = SIDE + _COUNTS + 44
    return [
        *parts,
        f'<text x="{middle}" y="{SIDE + 32}" text-anchor="middle">mean score of the bin</text>',
        f'<text x="{middle}" y="{below}" text-anchor="middle">rows in the bin</text>',
        f'<text transform="translate(-40 {middle}) rotate(-90)" text-anchor="middle">'
        "share of true labels</text>",
    ]


def _point(one: Bin, x: float, y: float) -> str:
    told = f"{one.rows:,} rows, score {one.lowest:.4g} to {one.highest:.4g}, {one.true:.1%} true"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#1f5fa8"><title>{told}</title></circle>'


def _row_counts(bins: Sequence[Bin], xs: Sequence[float]) -> list[str]:
    """The numbers of rows below their points, moved apart where they would overlap."""
    return [
        f'<text transform="translate({at + 4:.1f} {SIDE + _COUNTS + 26}) rotate(-90)" '
        f'font-size="10" fill="#1f5fa8">{one.rows:,}</text>'
        for one, at in zip(bins, _apart(xs, _LETTER), strict=True)
    ]


def _apart(xs: Sequence[float], distance: float) -> list[float]:
    """Rising positions, each at least `distance` from the next and near where it was, in 0-SIDE."""
    placed: list[float] = []
    for x in xs:
        placed.append(max(x, placed[-1] + distance) if placed else x)
    limit = float(SIDE)
    for at in range(len(placed) - 1, -1, -1):
        placed[at] = min(placed[at], limit)
        limit = placed[at] - distance
    return placed


def _range(bins: Sequence[Bin]) -> tuple[float, float]:
    low, high = bins[0].mean, bins[-1].mean
    return (low, high) if high > low else (low - 0.5, low + 0.5)
