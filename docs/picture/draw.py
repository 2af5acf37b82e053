#!/usr/bin/env python3
"""Draws overview.svg, the picture of README.md, from overview.txt.

    docs/picture/draw.py            writes overview.svg
    docs/picture/draw.py --check    compares it with overview.svg; exit code 1 if they differ

The text is a drawing of its own, one character a cell. The lines of `title:` and `desc:` before the
first empty line are for screen readers. Box-drawing characters become lines: light, heavy (in the
accent's colour: what is protected from end to end) or dashed. ▶ ◀ ▲ ▼ become arrowheads, ① to ⑨
numbered discs, *words* bold. Everything else is text; two spaces separate one text from the next.
It needs Python's standard library only.
"""

import sys
from pathlib import Path
from xml.sax.saxutils import escape

SOURCE = Path(__file__).with_name("overview.txt")
PICTURE = SOURCE.with_suffix(".svg")

CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN = 9, 20, 15, 18
HEAD_LENGTH = 11
LIGHT, HEAVY, DASHED = "light", "heavy", "dashed"

# What leads from the middle of a cell to its left, right, upper and lower edge.
STROKES = {
    "─": (LIGHT, LIGHT, None, None),
    "│": (None, None, LIGHT, LIGHT),
    "├": (None, LIGHT, LIGHT, LIGHT),
    "┤": (LIGHT, None, LIGHT, LIGHT),
    "┬": (LIGHT, LIGHT, None, LIGHT),
    "┴": (LIGHT, LIGHT, LIGHT, None),
    "━": (HEAVY, HEAVY, None, None),
    "┝": (None, HEAVY, LIGHT, LIGHT),
    "┥": (HEAVY, None, LIGHT, LIGHT),
    "┿": (HEAVY, HEAVY, LIGHT, LIGHT),
    "┄": (DASHED, DASHED, None, None),
    "┊": (None, None, DASHED, DASHED),
}
# A rounded corner: the edges that it joins, as steps in x and y from the middle.
CORNERS = {"╭": (1, 1), "╮": (-1, 1), "╰": (1, -1), "╯": (-1, -1)}
# An arrowhead: the way that it points. Its line comes from the other side.
HEADS = {"▶": (1, 0), "◀": (-1, 0), "▲": (0, -1), "▼": (0, 1)}
DISCS = "①②③④⑤⑥⑦⑧⑨"

STYLE = """\
.paper { fill: #ffffff; stroke: #d0d7de }
.light, .dashed, .heavy { fill: none; stroke: #57606a; stroke-width: 1.5 }
.dashed { stroke-dasharray: 3 4 }
.heavy { stroke: #0550ae; stroke-width: 3 }
.light-fill { fill: #57606a }
.heavy-fill { fill: #0550ae }
text { fill: #24292f; font: 15px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }
.bold { font-weight: bold }
.number { fill: #ffffff; font-weight: bold; text-anchor: middle }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; stroke: #30363d }
  .light, .dashed { stroke: #8b949e }
  .heavy { stroke: #58a6ff }
  .light-fill { fill: #8b949e }
  .heavy-fill { fill: #58a6ff }
  text { fill: #e6edf3 }
  .number { fill: #0d1117 }
}
"""


def main(arguments):
    drawn = draw(SOURCE.read_text(encoding="utf-8"))
    if arguments == ["--check"]:
        if PICTURE.read_text(encoding="utf-8") != drawn:
            sys.exit(f"{PICTURE} is not what {SOURCE} says: run docs/picture/draw.py")
    elif arguments:
        sys.exit(__doc__)
    else:
        PICTURE.write_text(drawn, encoding="utf-8")


def draw(source):
    head, _, body = source.partition("\n\n")
    said = [line.split(": ", 1) for line in head.splitlines()]
    title = " ".join(text for name, text in said if name == "title")
    description = " ".join(text for name, text in said if name == "desc")
    rows = body.rstrip("\n").split("\n")
    columns = max(len(row) for row in rows)
    cells = [row.ljust(columns) for row in rows]
    width = columns * CELL_WIDTH + 2 * MARGIN
    height = len(rows) * CELL_HEIGHT + 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" height="{height}" role="img" aria-labelledby="title desc">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="desc">{escape(description)}</desc>',
            f"<style>\n{STYLE}</style>",
            f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}"'
            ' rx="8"/>',
            *lines(cells),
            *corners_and_heads(cells),
            *texts(cells),
            "</svg>\n",
        ]
    )


def middle(column, row):
    """The middle of a cell, in pixels."""
    return MARGIN + (column + 0.5) * CELL_WIDTH, MARGIN + (row + 0.5) * CELL_HEIGHT


def number(value):
    return f"{value:g}"


def lines(cells):
    """Straight lines, each from one end to the other."""
    halves = {}
    for row, text in enumerate(cells):
        for column, character in enumerate(text):
            x, y = middle(column, row)
            left, right, up, down = STROKES.get(character, (None,) * 4)
            if character in HEADS:
                step_x, step_y = HEADS[character]
                weight = weight_behind(cells, column, row)
                left, right = (weight if step_x == step else None for step in (1, -1))
                up, down = (weight if step_y else None for _ in range(2))
            strokes = ((left, -1, 0), (right, 1, 0), (up, 0, -1), (down, 0, 1))
            for weight, step_x, step_y in strokes:
                if weight:
                    end = (x + step_x * CELL_WIDTH / 2, y + step_y * CELL_HEIGHT / 2)
                    first, last = sorted([(x, y), end])
                    halves.setdefault((weight, step_y == 0), []).append((first, last))
    for (weight, is_horizontal), parts in halves.items():
        parts.sort(key=lambda part: (part[0][is_horizontal], part[0][not is_horizontal]))
        joined = [parts[0]]
        for first, last in parts[1:]:
            if joined[-1][1] == first:
                joined[-1] = (joined[-1][0], last)
            else:
                joined.append((first, last))
        for (x1, y1), (x2, y2) in joined:
            ends = f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}"
            yield f'<path class="{weight}" d="{ends}"/>'


def weight_behind(cells, column, row):
    """The weight of the line that an arrowhead ends."""
    step_x, step_y = HEADS[cells[row][column]]
    behind = cells[row - step_y][column - step_x]
    return HEAVY if behind in "━┝┥" else LIGHT


def corners_and_heads(cells):
    for row, text in enumerate(cells):
        for column, character in enumerate(text):
            x, y = middle(column, row)
            if character in CORNERS:
                step_x, step_y = CORNERS[character]
                beside = text[column + step_x]
                weight = DASHED if beside == "┄" else LIGHT
                edge_x, edge_y = x + step_x * CELL_WIDTH / 2, y + step_y * CELL_HEIGHT / 2
                yield (
                    f'<path class="{weight}" d="M{number(x)} {number(edge_y)}'
                    f'Q{number(x)} {number(y)} {number(edge_x)} {number(y)}"/>'
                )
            elif character in HEADS:
                step_x, step_y = HEADS[character]
                weight = weight_behind(cells, column, row)
                # The tip touches the line in the next cell.
                tip_x, tip_y = x + step_x * (CELL_WIDTH - 1), y + step_y * (CELL_HEIGHT - 1)
                back_x, back_y = tip_x - step_x * HEAD_LENGTH, tip_y - step_y * HEAD_LENGTH
                half = HEAD_LENGTH / 2
                yield (
                    f'<path class="{weight}-fill" d="M{number(tip_x)} {number(tip_y)}'
                    f"L{number(back_x - step_y * half)} {number(back_y - step_x * half)}"
                    f'L{number(back_x + step_y * half)} {number(back_y + step_x * half)}Z"/>'
                )


def texts(cells):
    for row, text in enumerate(cells):
        drawing = {*STROKES, *CORNERS, *HEADS}
        words = "".join(" " if character in drawing else character for character in text)
        column = 0
        for part in words.split("  "):
            start = column + len(part) - len(part.lstrip())
            yield from phrase(part.strip(), start, row)
            column += len(part) + 2


def phrase(text, column, row):
    if not text:
        return
    x, y = middle(column, row)
    baseline = number(y + FONT_SIZE / 3)
    if text[0] in DISCS:
        yield f'<circle class="heavy-fill" cx="{number(x)}" cy="{number(y)}" r="9"/>'
        numeral = DISCS.index(text[0]) + 1
        yield f'<text class="number" x="{number(x)}" y="{baseline}">{numeral}</text>'
        yield from phrase(text[1:].strip(), column + 2, row)
        return
    left = x - CELL_WIDTH / 2
    style = ""
    if text[0] == text[-1] == "*":
        text, left, style = text[1:-1], left + CELL_WIDTH, ' class="bold"'
    length = len(text) * CELL_WIDTH
    place = f'x="{number(left)}" y="{baseline}" textLength="{length}"'
    yield f"<text{style} {place}>{escape(text)}</text>"


main(sys.argv[1:])
