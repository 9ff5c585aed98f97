"""Line plots as SVG, in the one style of the documents' pictures, for light and dark pages.

Used by scripts/draw-dashboard, scripts/plot-soak and scripts/plot-throughput. Needs Python 3 only.
"""

import html
import math
from dataclasses import dataclass, field

# GitHub's colours for light and dark pages, as in docs/images/overview.svg. One pair per line.
LINES = [
    ("#0969da", "#4493f8"),
    ("#bc4c00", "#db6d28"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#ab7df8"),
    ("#cf222e", "#f85149"),
    ("#9a6700", "#d29922"),
    ("#bf3989", "#db61a2"),
    ("#59636e", "#9198a1"),
]
# The width of an average character, in font sizes, and of an average capital.
CHARACTER, CAPITAL = 0.56, 0.72
SIZE = 11
# The left margin has the labels of the y axis, the bottom margin those of the x axis.
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 26, 20
LEGEND_LINE = 15


@dataclass
class Line:
    """A line of a panel: its name in the legend, and its points."""

    name: str
    points: list


@dataclass
class Panel:
    """A plot, or, with a value instead of lines, a figure."""

    title: str
    lines: list = field(default_factory=list)
    value: str = None
    # Writes a value of the y axis, or of the x axis.
    show: callable = None
    show_x: callable = None
    # The y axis ends here or above.
    least_top: float = 0
    # Both axes: the distance between two powers of ten is the same.
    log_x: bool = False
    log_y: bool = False


def style():
    """The style sheet of a picture."""

    def rules(theme, ground, ink, faint, frame, grid):
        lines = "".join(
            f".c{index} {{ stroke: {pair[theme]} }} .k{index} {{ fill: {pair[theme]} }} "
            for index, pair in enumerate(LINES)
        )
        return (
            f"svg {{ background: {ground} }} text {{ fill: {ink} }} .faint {{ fill: {faint} }} "
            f".axis {{ stroke: {frame} }} .grid {{ stroke: {grid} }} {lines}"
        )

    light = rules(0, "#ffffff", "#1f2328", "#59636e", "#818b98", "#d1d9e0")
    dark = rules(1, "#0d1117", "#f0f6fc", "#9198a1", "#656c76", "#3d444d")
    return (
        f"<style>{light}path {{ fill: none }} .line {{ stroke-width: 1.4; stroke-linejoin: round }} "
        f".grid {{ stroke-width: 0.6 }} @media (prefers-color-scheme: dark) {{ {dark} }}</style>"
    )


def picture(width, height, title, body):
    """The whole file. The title is for readers who do not see the picture."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="title" font-family="system-ui, sans-serif" font-size="{SIZE}">'
        f'<title id="title">{html.escape(title)}</title>{style()}\n{body}</svg>\n'
    )


def text(x, y, content, faint=False, anchor=None, size=None, bold=False):
    attributes = f'x="{x:.4g}" y="{y:g}"'
    if faint:
        attributes += ' class="faint"'
    if anchor:
        attributes += f' text-anchor="{anchor}"'
    if size:
        attributes += f' font-size="{size}"'
    if bold:
        attributes += ' font-weight="600"'
    return f"<text {attributes}>{html.escape(content)}</text>"


def ticks(most, count=4):
    """Round values from 0 to at least `most`."""
    if most <= 0:
        most = 1
    step = 10 ** math.floor(math.log10(most / count))
    step *= next(factor for factor in (1, 2, 5, 10) if step * factor * count >= most * 0.999)
    return [index * step for index in range(math.ceil(most / step - 1e-6) + 1)]


def powers(least, most):
    """The powers of ten, and 2 and 5 times them, from at most `least` to at least `most`."""
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    values = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    first = max(value for value in values if value <= least * 1.001)
    last = min(value for value in values if value >= most * 0.999)
    return [value for value in values if first <= value <= last]


def width_of(name):
    """About the width of a text."""
    return SIZE * sum(CAPITAL if character.isupper() else CHARACTER for character in name)


def legend_rows(panel, width):
    """The names of the lines, in as many rows as they need below the plot."""
    rows, used = [[]], 0
    for index, line in enumerate(panel.lines):
        if not line.name:
            continue
        needed = 24 + width_of(line.name)
        if rows[-1] and used + needed > width:
            rows.append([])
            used = 0
        rows[-1].append((used, index, line.name))
        used += needed
    return rows if rows[0] else []


def height_of(panel, width, plot):
    """The height of a panel whose plot has this height."""
    if panel.value is not None:
        return 62
    return TOP + plot + BOTTOM + LEGEND_LINE * len(legend_rows(panel, width - 8)) + 8


def draw(panel, x, y, width, plot):
    """A panel whose upper left corner is at x, y."""
    parts = [f'<g class="panel" transform="translate({x:g} {y:g})">']
    parts.append(text(4, 15, panel.title, bold=True))
    if panel.value is not None:
        parts.append(text(4, 46, panel.value, size=24))
    else:
        parts.append(plot_of(panel, width, plot))
    return "".join(parts) + "</g>\n"


def plot_of(panel, width, plot):
    """Grid, axes, lines, and the legend below the axes."""
    values = [value for line in panel.lines for _, value in line.points]
    places = [place for line in panel.lines for place, _ in line.points]
    if panel.log_y:
        marks = powers(min(values), max(values))
    else:
        marks = ticks(max([panel.least_top, *values]))
    if panel.log_x:
        places_marked = sorted(set(places))
        first, last = places_marked[0], places_marked[-1]
    else:
        first, last = 0, max([1, *places])
        places_marked = [mark for mark in ticks(last) if mark <= last * 1.001]
    right, bottom = width - RIGHT, TOP + plot

    def share(value, begin, end, log):
        if log:
            value, begin, end = math.log(value), math.log(begin), math.log(end)
        return (value - begin) / (end - begin)

    def across(value):
        return LEFT + share(value, first, last, panel.log_x) * (right - LEFT)

    def up(value):
        return bottom - share(value, marks[0], marks[-1], panel.log_y) * plot

    parts = []
    for mark in marks:
        parts.append(f'<path class="grid" d="M{LEFT} {up(mark):.1f}H{right:g}"/>')
        parts.append(text(LEFT - 6, round(up(mark) + 4, 1), panel.show(mark), True, "end"))
    for mark in places_marked:
        anchor = "end" if mark == places_marked[-1] and across(mark) > right - 20 else "middle"
        parts.append(text(across(mark), bottom + 16, panel.show_x(mark), True, anchor))
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right:g}"/>')
    if not panel.lines:
        parts.append(text((LEFT + right) / 2, TOP + plot / 2, "no data", True, "middle"))
    for index, line in enumerate(panel.lines):
        steps = "L".join(f"{across(place):.1f} {up(value):.1f}" for place, value in line.points)
        parts.append(f'<path class="line c{index % len(LINES)}" d="M{steps}"/>')
    top = bottom + BOTTOM + 12
    for row, names in enumerate(legend_rows(panel, width - 8)):
        for left, index, name in names:
            x, y = 4 + left, top + row * LEGEND_LINE
            parts.append(
                f'<rect class="k{index % len(LINES)}" x="{x:g}" y="{y - 6}" width="10" height="3"/>'
            )
            parts.append(text(x + 14, y, name, True))
    return "".join(parts)


def number(value):
    """A number with as many digits as a label has room for."""
    if abs(value) >= 1_000_000:
        return f"{value / 1_000_000:.3g} M"
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g} k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def seconds(value):
    """A duration in s, ms or µs."""
    if value == 0:
        return "0"
    if value < 0.001:
        return f"{value * 1e6:.3g} µs"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def percent(value):
    return f"{value * 100:.3g} %"
