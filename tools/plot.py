"""Draw responses per second by backend from records of `make e2e`, as SVG with one panel per record."""

import argparse
import json
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 860, 190
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 44, 34
COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#aa3377", "#bbbbbb", "#ee8866")
FAILED = "#cc3311"
INK = "#444444"
TICKS = 4
"""Horizontal grid lines per panel, at round numbers."""


def main() -> int:
    """Read the records and write the chart."""
    parser = argparse.ArgumentParser(prog="python -m tools.plot", description=__doc__)
    parser.add_argument("records", nargs="+", type=Path, help="load-NAME.json files of a run with E2E_LOGS=FOLDER")
    parser.add_argument("--output", type=Path, required=True, help="the SVG file to write")
    options = parser.parse_args()
    try:
        records = [json.loads(path.read_text()) for path in options.records]
    except (OSError, ValueError) as error:
        print(f"can't read a record: {error}; to write one, run: E2E_LOGS=FOLDER make e2e", file=sys.stderr)
        return 1
    options.output.write_text(chart(records))
    print(f"{options.output}: {', '.join(record['name'] for record in records)}")
    return 0


def chart(records: Sequence[Mapping[str, Any]]) -> str:
    """The text of an SVG file with all panels, stacked."""
    size = {"width": str(WIDTH), "height": str(HEIGHT * len(records))}
    box = f"0 0 {WIDTH} {HEIGHT * len(records)}"
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": box, **size})
    ET.SubElement(root, "rect", {**size, "fill": "#ffffff"})
    backends = sorted({answer["backend"] for record in records for answer in record["answers"]} - {""})
    colours = dict(zip(backends, COLOURS * len(backends), strict=False)) | {"failed": FAILED}
    for number, record in enumerate(records):
        panel = ET.SubElement(root, "g", {"transform": f"translate(0 {number * HEIGHT})"})
        draw(panel, record, colours)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def draw(panel: ET.Element, record: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Draw one record: a bar per second, marks for events, and a title with the counts."""
    # The last second is incomplete and would look like a failure.
    seconds = int(record["seconds"])
    bars = [Counter[str]() for _ in range(seconds)]
    for answer in record["answers"]:
        second = int(answer["at"] + answer["seconds"])
        if second < seconds:
            bars[second]["failed" if answer["error"] else answer["backend"]] += 1
    most = max((bar.total() for bar in bars), default=1)
    step = max(round(most / TICKS, -1), 10)
    across = (WIDTH - LEFT - RIGHT) / max(seconds, 1)
    up = (HEIGHT - TOP - BOTTOM) / most

    title = f"{record['name']}: {record['sent']} requests, {record['failed']} failed"
    write(panel, LEFT, 18, title, {"font-weight": "bold"})
    for value in range(0, int(most) + 1, int(step)):
        y = HEIGHT - BOTTOM - value * up
        ET.SubElement(panel, "path", {"d": f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", "stroke": "#dddddd"})
        write(panel, LEFT - 6, y + 4, str(value), {"text-anchor": "end"})
    for second, bar in enumerate(bars):
        y = float(HEIGHT - BOTTOM)
        for name, colour in colours.items():
            if bar[name]:
                y -= bar[name] * up
                place = {"x": f"{LEFT + second * across:.1f}", "y": f"{y:.1f}"}
                size = {"width": f"{across * 0.9:.1f}", "height": f"{bar[name] * up:.1f}"}
                ET.SubElement(panel, "rect", {**place, **size, "fill": colour})
    for number, mark in enumerate(mark for mark in record["marks"] if mark["at"] < seconds):
        x = LEFT + mark["at"] * across
        ET.SubElement(panel, "path", {"d": f"M{x:.1f} {TOP - 6}V{HEIGHT - BOTTOM}", "stroke": INK})
        write(panel, x + 4, TOP - 4 - 11 * (number % 2), f"{mark['what']}, {mark['at']:.0f} s", {})
    write(panel, LEFT, HEIGHT - 10, f"responses per second, for {seconds} s", {})
    x = WIDTH - RIGHT - 90 * len(colours)
    for number, (name, colour) in enumerate(colours.items()):
        place = {"x": str(x + 90 * number), "y": str(HEIGHT - 20)}
        ET.SubElement(panel, "rect", {**place, "width": "12", "height": "12", "fill": colour})
        write(panel, x + 90 * number + 17, HEIGHT - 10, name, {})


def write(panel: ET.Element, x: float, y: float, line: str, style: Mapping[str, str]) -> None:
    """Write a line of text."""
    font = {"font-family": "sans-serif", "font-size": "12", "fill": INK}
    ET.SubElement(panel, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **font, **style}).text = line


if __name__ == "__main__":
    sys.exit(main())
