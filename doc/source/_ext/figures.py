# SPDX-License-Identifier: Apache-2.0
"""Draw the figures of the documentation from the code: state charts and the data path.

Each function returns SVG text. Positions are given here; states, transitions and the
descriptions of modules come from the code.
"""

import ast
import html
import importlib.util
import math
import pathlib
from collections.abc import Iterable, Mapping

STYLE = """
text{font-family:Helvetica,Arial,sans-serif;font-size:14px;fill:#112;text-anchor:middle}
.name{font-weight:bold}.note{font-size:11.5px;fill:#445}.left{text-anchor:start}
.label{font-size:12px;fill:#234;paint-order:stroke;stroke:#fff;stroke-width:4px}
.area{fill:#f6f8fb;stroke:#9aa8bd;stroke-width:1.2}
.box{fill:#fff;stroke:#334;stroke-width:1.3}.disk{fill:#fdf3d8;stroke:#8a6d1a;stroke-width:1.3}
.closed{fill:#eef3ea;stroke:#58724a;stroke-width:1.3}.outside{fill:#eef;stroke:#667;stroke-width:1.3}
.edge{stroke:#334;stroke-width:1.5;fill:none}.back{stroke:#58724a;stroke-dasharray:5 4}
"""
MARKER = (
    '<defs><marker id="{id}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
    'markerHeight="7" orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="#334"/>'
    "</marker></defs>"
)

Point = tuple[float, float]

# -- state charts ------------------------------------------------------------------------------
WIDTH, HEIGHT = 118, 38
#: State table -> position of the centre of each state. A state that is missing here is drawn in
#: a row below the others.
STATES: Mapping[str, Mapping[str, Point]] = {
    "INCIDENT": {
        "pending": (100, 270),
        "held": (390, 90),
        "silenced": (390, 195),
        "unhandled": (390, 400),
        "recovering": (680, 270),
        "resolved": (920, 90),
        "ignored": (920, 195),
        "unrecovered": (920, 400),
    },
    "RECOVERY": {
        "requested": (100, 130),
        "running": (360, 130),
        "waiting": (620, 45),
        "succeeded": (880, 45),
        "failed": (880, 125),
        "skipped": (880, 210),
        "cancelled": (360, 270),
    },
    "REQUEST": {"requested": (100, 100), "done": (380, 55), "refused": (380, 145)},
}


def state_chart(name: str, table: Mapping[str, Mapping[str, str]]) -> str:
    """Return the chart of a state table.

    A transition that each open state has to the same state is drawn once, from the frame around
    the open states.

    :param name: name of the table, a key of ``STATES`` where positions are known.
    :param table: state -> {transition: next state}.
    """
    rows = {str(state): {str(m): str(n) for m, n in row.items()} for state, row in table.items()}
    places = dict(STATES.get(name, {}))
    bottom = max((y for _, y in places.values()), default=0.0)
    missing = [state for state in rows if state not in places]
    places |= {state: (100.0 + 160 * n, bottom + 90) for n, state in enumerate(missing)}
    opened = [state for state, row in rows.items() if len(row) > 1]
    edges: dict[tuple[str, str], list[str]] = {}
    for state, row in rows.items():
        for move, following in row.items():
            edges.setdefault((state, following), []).append(move)
    shared = _shared(edges, opened) if len(opened) > 2 else {}
    marker = f"tip-{name.lower()}"
    shapes = [_frame(opened, places)] if shared else []
    for (start, end), moves in edges.items():
        if (end, tuple(moves)) in shared and start in opened:
            continue
        shapes.append(
            _transition(places[start], places[end], (end, start) in edges, moves, marker)
        )
    for end, moves in shared:
        shapes.append(_from_frame(opened, places, places[end], moves, marker))
    for state in rows:
        shapes.append(_box(places[state], state, "box" if len(rows[state]) > 1 else "closed"))
    width = max(x for x, _ in places.values()) + WIDTH / 2 + 20
    height = max(y for _, y in places.values()) + 70
    return _svg(width, height, f"States: {', '.join(rows)}", marker, shapes)


def _shared(
    edges: Mapping[tuple[str, str], list[str]], opened: list[str]
) -> dict[tuple[str, tuple[str, ...]], None]:
    ends = {end: moves for (_, end), moves in edges.items() if end not in opened}
    return {
        (end, tuple(moves)): None
        for end, moves in ends.items()
        if all(edges.get((state, end)) == moves for state in opened)
    }


def _bounds(states: list[str], places: Mapping[str, Point]) -> tuple[float, float, float, float]:
    xs, ys = zip(*(places[state] for state in states), strict=True)
    return min(xs) - 80, min(ys) - 55, max(xs) + 80, max(ys) + 45


def _frame(states: list[str], places: Mapping[str, Point]) -> str:
    left, top, right, bottom = _bounds(states, places)
    return (
        f'<rect class="area" x="{left}" y="{top}" width="{right - left}" '
        f'height="{bottom - top}" rx="8"/><text class="note left" x="{left + 12}" '
        f'y="{top + 20}">open: not closed yet</text>'
    )


def _from_frame(
    states: list[str],
    places: Mapping[str, Point],
    end: Point,
    moves: Iterable[str],
    marker: str,
) -> str:
    right = _bounds(states, places)[2]
    x, y = end
    return _path(
        f"M{right} {y}L{x - WIDTH / 2 - 2} {y}",
        marker,
        ((right + x - WIDTH / 2) / 2, y - 7),
        moves,
    )


def _transition(start: Point, end: Point, paired: bool, moves: Iterable[str], marker: str) -> str:
    if start == end:
        x, y = start[0], start[1] - HEIGHT / 2
        path = f"M{x - 25} {y}C{x - 45} {y - 55} {x + 45} {y - 55} {x + 25} {y - 2}"
        return _path(path, marker, (x, y - 44), moves)
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    across = (-dy / length, dx / length)
    shift = 9.0 if paired else 0.0
    bend = 150.0 if abs(dx) < 1 and length > 250 else 0.0
    first = _border(start, (dx, dy), across, shift)
    last = _border(end, (-dx, -dy), across, shift)
    if bend:
        side = -1 if dy > 0 else 1
        first = (start[0] - side * WIDTH / 2 * (1 if dy > 0 else 1), start[1] + shift)
        last = (end[0] - side * WIDTH / 2, end[1] + shift)
        middle = ((first[0] + last[0]) / 2 - side * bend * 0.62, (first[1] + last[1]) / 2)
        points = [f"{x:.0f} {y:.0f}" for x, y in (first, middle, last)]
        path = "M{}Q{} {}".format(*points)
        return _path(path, marker, ((first[0] + middle[0]) / 2, middle[1] + side * 40), moves)
    path = f"M{first[0]:.0f} {first[1]:.0f}L{last[0]:.0f} {last[1]:.0f}"
    part = 0.42 if paired else 0.3 if length > 500 else 0.5
    label = (
        first[0] + (last[0] - first[0]) * part,
        first[1] + (last[1] - first[1]) * part + (4 if abs(dy) > 20 else -6),
    )
    return _path(path, marker, label, moves)


def _border(centre: Point, direction: Point, across: Point, shift: float) -> Point:
    """Return the point where a line leaves a box."""
    x, y = centre[0] + across[0] * shift, centre[1] + across[1] * shift
    dx, dy = direction
    reach = [
        (half - sign * (position - middle)) / abs(step)
        for half, step, position, middle, sign in (
            (WIDTH / 2 + 2, dx, x, centre[0], 1 if dx > 0 else -1),
            (HEIGHT / 2 + 2, dy, y, centre[1], 1 if dy > 0 else -1),
        )
        if step
    ]
    return x + dx * min(reach), y + dy * min(reach)


def _path(path: str, marker: str, at: Point, words: Iterable[str]) -> str:
    text = html.escape(", ".join(words).replace("_", " "))
    return (
        f'<path class="edge" d="{path}" marker-end="url(#{marker})"/>'
        f'<text class="label" x="{at[0]:.0f}" y="{at[1]:.0f}">{text}</text>'
    )


def _box(centre: Point, text: str, kind: str) -> str:
    x, y = centre
    return (
        f'<rect class="{kind}" x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" '
        f'width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text class="name" x="{x:.0f}" y="{y + 5:.0f}">{html.escape(text)}</text>'
    )


def _svg(width: float, height: float, title: str, marker: str, shapes: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="max-width:{width:.0f}px;width:100%;height:auto" role="img">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"{MARKER.format(id=marker)}{''.join(shapes)}</svg>"
    )


# -- data path ---------------------------------------------------------------------------------
#: (x, y, width, kind, name, note, module). The tooltip of a box is the module's docstring.
STAGES = (
    (24, 60, 130, "outside", "host", "libvirt, QEMU, kernel", ""),
    (182, 60, 112, "box", "sources", "observations", "vmmonitor.sources"),
    (322, 60, 148, "box", "correlator", "one failure, one event", "vmmonitor.agent.correlator"),
    (322, 150, 148, "box", "inventory", "snapshot and deltas", "vmmonitor.agent.inventory"),
    (322, 240, 148, "box", "filter", "ignore, record, incident", "vmmonitor.rules.filters"),
    (322, 330, 148, "disk", "spool", "on disk, in order", "vmmonitor.agent.spool"),
    (322, 420, 148, "box", "forwarder", "batches, with retries", "vmmonitor.agent.forwarder"),
    (
        162,
        240,
        132,
        "box",
        "evidence",
        "captured on request",
        "vmmonitor.agent.evidence.collector",
    ),
    (162, 330, 132, "disk", "evidence", "files", ""),
    (590, 420, 130, "box", "ingest", "one transaction", "vmmonitor.engine.ingest"),
    (590, 330, 130, "box", "incidents", "grouping, timeline", "vmmonitor.engine.incidents"),
    (590, 240, 130, "box", "reconcile", "desired and observed", "vmmonitor.engine.reconcile"),
    (590, 60, 130, "box", "verdict", "asks the expectation", "vmmonitor.engine.recovery.verdicts"),
    (770, 60, 150, "outside", "expectation", "nova or libvirt", "vmmonitor.expectation"),
    (590, 150, 130, "box", "hold", "may be planned", "vmmonitor.rules.policies"),
    (770, 150, 150, "box", "admission", "silences, storms, budget,", "vmmonitor.engine.admission"),
    (770, 260, 150, "box", "recovery", "lease, attempts, backoff", "vmmonitor.engine.recovery"),
    (770, 350, 150, "box", "driver", "nova, masakari, agent ...", "vmmonitor.drivers"),
    (590, 510, 330, "disk", "database", "events, incidents, recoveries, leases", "vmmonitor.db"),
    (770, 430, 150, "disk", "outbox", "notifications to send", "vmmonitor.db.outbox"),
)
#: (path, label, position of the label); a label at (0, 0) is not drawn.
ARROWS = (
    ("M154 85H180", "", (0, 0)),
    ("M294 85H320", "", (0, 0)),
    ("M396 110V148", "", (0, 0)),
    ("M396 200V238", "", (0, 0)),
    ("M396 290V328", "record, incident", (448, 313)),
    ("M396 380V418", "", (0, 0)),
    ("M322 265H296", "", (0, 0)),
    ("M228 290V328", "", (0, 0)),
    ("M470 438H588", "RPC call", (524, 430)),
    ("M588 458H472", "receipt: delete", (524, 474)),
    ("M655 470V508", "commit", (680, 493)),
    ("M655 420V382", "", (0, 0)),
    ("M590 355H550V175H588", "", (0, 0)),
    ("M655 290V328", "drift", (673, 313)),
    ("M655 150V112", "", (0, 0)),
    ("M720 76H768", "", (0, 0)),
    ("M768 96H722", "", (0, 0)),
    ("M720 108L768 152", "failed", (752, 128)),
    ("M845 216V258", "admitted", (876, 241)),
    ("M845 310V348", "", (0, 0)),
    ("M720 372L768 440", "", (0, 0)),
    ("M920 455H950", "", (0, 0)),
)


def data_path() -> str:
    """Return the figure of the path of an event, from the host to the recovery.

    :raises ModuleNotFoundError: a stage names a module that does not exist.
    """
    shapes = [
        '<rect class="area" x="10" y="10" width="470" height="480" rx="8"/>',
        '<text class="name left" x="24" y="36">Compute host: vmmonitor-agent</text>',
        '<rect class="area" x="536" y="10" width="400" height="570" rx="8"/>',
        '<text class="name left" x="552" y="36">Controllers: vmmonitor-engine, any number</text>',
        '<text class="note left" x="955" y="450">message</text>',
        '<text class="note left" x="955" y="465">bus</text>',
    ]
    for path, label, at in ARROWS:
        back = " back" if label.startswith("receipt") else ""
        shapes.append(f'<path class="edge{back}" d="{path}" marker-end="url(#tip-path)"/>')
        if label:
            shapes.append(f'<text class="label" x="{at[0]}" y="{at[1]}">{label}</text>')
    boxes = []
    for x, y, width, kind, name, note, module in STAGES:
        height = 66 if name == "admission" else 50
        tip = (
            f"<title>{html.escape(module + ': ' + first_sentence(module))}</title>"
            if module
            else ""
        )
        boxes.append(
            f'<g>{tip}<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" '
            f'rx="6"/><text class="name" x="{x + width / 2}" y="{y + 21}">{name}</text>'
            f'<text class="note" x="{x + width / 2}" y="{y + 40}">{note}</text></g>'
        )
    boxes.append('<text class="note" x="845" y="206">flapping, concurrency</text>')
    return _svg(
        1010, 590, "Path of an event from the host to the recovery", "tip-path", [*shapes, *boxes]
    )


def first_sentence(module: str) -> str:
    """Return the first sentence of a module's docstring.

    :param module: dotted name.
    :raises ModuleNotFoundError: the module does not exist.
    """
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.origin:
        return ""
    docstring = ast.get_docstring(ast.parse(pathlib.Path(spec.origin).read_text())) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".")
