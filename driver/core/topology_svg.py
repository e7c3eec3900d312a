"""The picture of a node as SVG. Called by `accel-dra inventory --topology --svg`.

One self-contained document: no scripts, no fonts or files from elsewhere, readable on light and dark pages, the same
to the byte for the same topology. Top to bottom: sockets with their PCIe roots and devices, links, switches, and what
is not published. It must not know more than `topology` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Final

from driver.core.topology import Cable, Part, Root, Socket, Tile, Topology, shorten

MARGIN: Final = 28
HEAD: Final = 84
CARD: Final = 184
GAP: Final = 14
PADDING: Final = 18
SOCKET_HEAD: Final = 42
ROOT: Final = 44
CARD_HEIGHT: Final = 98
BAR: Final = 62
STEP: Final = 24
SOCKET_GAP: Final = 30
SWITCH: Final = 74
LINE: Final = 22
MIN_WIDTH: Final = 560

COLOURS: Final = ("#2563eb", "#d9480f", "#0a8f6c", "#8b3fd1", "#b8860b", "#c2255c", "#0b7285", "#5c6b00")
STATES: Final = {"unhealthy": "#d92d20", "degraded": "#dc8a04"}

STYLE: Final = """
text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #1b2330 }
.mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: 11.5px }
.title { font-size: 21px; font-weight: 650 } .sub { font-size: 13px; fill: #5d6879 }
.name { font-size: 15px; font-weight: 650 } .fact { font-size: 12px; fill: #46505f }
.big { font-size: 13px; font-weight: 600 }
.page { fill: #ffffff } .socket { fill: #f3f5f9; stroke: #d5dbe5 } .root { fill: #e4e9f2; stroke: #cbd3e0 }
.card { fill: #ffffff; stroke: #cbd3e0 } .wire { stroke: #a9b4c4; stroke-width: 1.5; fill: none }
.part { fill: #dfe8fb; stroke: #8fabe6 } .free { fill: none; stroke: #cbd3e0; stroke-dasharray: 3 3 }
.switch { fill: #ffffff } .white { fill: #ffffff; font-weight: 700; font-size: 12px } .bad { fill: #b42318 }
@media (prefers-color-scheme: dark) {
text { fill: #e8ecf3 } .sub { fill: #9aa6b8 } .fact { fill: #b9c3d2 } .page { fill: #12161d }
.socket { fill: #1a202a; stroke: #313a48 } .root { fill: #252d3a; stroke: #3a4556 }
.card { fill: #202835; stroke: #3f4b5e } .part { fill: #27406f; stroke: #5c80c8 }
.switch { fill: #202835 } .bad { fill: #ff8a80 } }
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are, in pixels: left edges of devices by label, and the heights of what stands below them."""

    lefts: Mapping[str, float]
    width: float
    cards: float
    card_height: float
    links: float
    switches: float
    notes: float
    height: float

    def middle(self, label: str) -> float:
        """Return the middle of a device's card."""
        return self.lefts[label] + CARD / 2


def draw(topology: Topology) -> str:
    """Return the document."""
    layout = _lay_out(topology)
    body = [
        _box("page", 0, 0, layout.width, layout.height, radius=0),
        _text(MARGIN, MARGIN + 18, topology.title, "title"),
        _text(MARGIN, MARGIN + 40, topology.subtitle, "sub"),
        *_draw_sockets(topology, layout),
        *_draw_cables(topology, layout),
        *_draw_switches(topology, layout),
        *(line for tile in topology.tiles for line in _draw_card(tile, layout)),
        *_draw_notes(topology, layout),
    ]
    size = f'width="{layout.width:g}" height="{layout.height:g}" viewBox="0 0 {layout.width:g} {layout.height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(topology.title)}">'
    return (
        "\n".join([head, f"<title>{escape(topology.title)}</title>", f"<style>{STYLE}</style>", *body, "</svg>"]) + "\n"
    )


def _lay_out(topology: Topology) -> Layout:
    lefts: dict[str, float] = {}
    left = float(MARGIN)
    for socket in topology.sockets:
        for number, tile in enumerate(socket.tiles):
            lefts[tile.label] = left + PADDING + number * (CARD + GAP)
        left += _socket_width(socket) + SOCKET_GAP
    cards = HEAD + SOCKET_HEAD + ROOT + 10
    card_height = CARD_HEIGHT + (BAR if any(tile.parts for tile in topology.tiles) else 0)
    links = cards + card_height + PADDING if topology.sockets else HEAD
    order = {tile.label: number for number, tile in enumerate(topology.tiles)}
    spans = [abs(order[cable.one] - order[cable.other]) for cable in topology.cables]
    switches = links + (44 + STEP * max(spans) if spans else 0)
    bars = _stack(topology)
    notes = switches + (56 + (SWITCH + GAP) * (1 + max(bars.values())) if bars else 0) + 20
    width = max(left - SOCKET_GAP + MARGIN, MIN_WIDTH)
    return Layout(
        lefts, width, cards, card_height, links, switches, notes, notes + LINE * len(_notes(topology)) + MARGIN
    )


def _socket_width(socket: Socket) -> float:
    return len(socket.tiles) * (CARD + GAP) - GAP + 2 * PADDING


def _draw_sockets(topology: Topology, layout: Layout) -> Iterator[str]:
    for socket in topology.sockets:
        left = layout.lefts[socket.tiles[0].label] - PADDING
        yield _box("socket", left, HEAD, _socket_width(socket), layout.links - HEAD, radius=14)
        yield _text(left + PADDING, HEAD + 27, socket.name, "name")
        for root in socket.roots:
            yield from _draw_root(root, layout)


def _draw_root(root: Root, layout: Layout) -> Iterator[str]:
    left = layout.lefts[root.tiles[0].label]
    width = len(root.tiles) * (CARD + GAP) - GAP
    top = HEAD + SOCKET_HEAD
    for tile in root.tiles:
        middle = layout.middle(tile.label)
        yield f'<path class="wire" d="M{middle:g} {top + 26:g}V{layout.cards:g}"/>'
    yield _box("root", left, top, width, 28, radius=8)
    yield _text(left + width / 2, top + 18, root.name, "mono", anchor="middle")


def _draw_card(tile: Tile, layout: Layout) -> Iterator[str]:
    left, top = layout.lefts[tile.label], layout.cards
    colour = _colour(tile.group) if tile.group else "#a9b4c4"
    border = f' style="stroke:{STATES[tile.state]};stroke-width:2.5"' if tile.state else ""
    yield _box("card", left, top, CARD, layout.card_height, radius=10, extra=border)
    line = f"M{left + 12:g} {top + 1:g}h{CARD - 24}"
    yield f'<path d="{line}" stroke="{colour}" stroke-width="4" stroke-linecap="round"/>'
    yield _text(left + 14, top + 27, tile.label, "name")
    if tile.group:
        yield f'<circle cx="{left + CARD - 22:g}" cy="{top + 22:g}" r="10" fill="{colour}"/>'
        yield _text(left + CARD - 22, top + 26, tile.group, "white", anchor="middle")
    yield _text(left + 14, top + 46, tile.address, "mono")
    yield _text(left + 14, top + 65, _cut(tile.model, 25), "fact")
    yield _text(left + 14, top + 85, tile.memory, "big")
    if tile.state:
        fill = f' style="fill:{STATES[tile.state]}"'
        yield _text(left + CARD - 14, top + 85, tile.state, "big", anchor="end", extra=fill)
    if tile.partitioned:
        yield from _draw_parts(tile, left + 14, top + CARD_HEIGHT)


def _draw_parts(tile: Tile, left: float, top: float) -> Iterator[str]:
    """Draw the memory of a device as a bar, cut into its partitions; what is left over is dashed."""
    width, height = CARD - 28, BAR - 14
    if not tile.parts:
        yield _text(left, top + 12, "no partitions", "fact")
        return
    even = 1 / len(tile.parts) if any(not part.share for part in tile.parts) else 0
    yield _box("free", left, top, width, height, radius=4)
    at = left
    for part in tile.parts:
        size = (even or part.share) * width
        yield from _draw_part(part, at, top, size, height)
        at += size


def _draw_part(part: Part, left: float, top: float, width: float, height: float) -> Iterator[str]:
    border = f' style="stroke:{STATES[part.state]};stroke-width:2"' if part.state else ""
    yield f"<g><title>{escape(f'{part.profile} at {part.placement} {part.state}'.strip())}</title>"
    yield _box("part", left, top, width, height, radius=3, extra=border)
    middle, centre = left + width / 2, top + height / 2
    size = ' style="font-size:10px"'
    if width < 8 * len(part.profile):
        turned = f' transform="rotate(-90 {middle:g} {centre:g})"'
        yield _text(middle, centre + 3.5, part.profile, "mono", anchor="middle", extra=turned + size)
    else:
        yield _text(middle, centre + 4, part.profile, "mono", anchor="middle", extra=size)
    yield "</g>"


def _draw_cables(topology: Topology, layout: Layout) -> Iterator[str]:
    """Draw direct links as bows under the devices: the wider the pair is apart, the deeper the bow."""
    order = {tile.label: number for number, tile in enumerate(topology.tiles)}
    groups = {label: group for group in topology.groups for label in group.members}
    cables = sorted(topology.cables, key=lambda cable: order[cable.one] - order[cable.other])
    labels: list[str] = []
    for cable in cables:
        ends = [_port(cable, label, topology, order, layout) for label in (cable.one, cable.other)]
        bottom = layout.cards + layout.card_height
        depth = layout.links + 18 + STEP * abs(order[cable.one] - order[cable.other])
        same = groups.get(cable.one) is groups.get(cable.other) and cable.one in groups
        colour = _colour(groups[cable.one].letter) if same else "#8a96a8"
        pull = bottom + (depth - bottom) * 4 / 3
        yield (
            f'<path d="M{ends[0]:g} {bottom:g}C{ends[0]:g} {pull:g} {ends[1]:g} {pull:g} {ends[1]:g} {bottom:g}" '
            f'fill="none" stroke="{colour}" stroke-width="{1 + min(cable.count, 8) * 0.5:g}" stroke-opacity="0.75"/>'
        )
        labels += _badge(sum(ends) / 2, depth, f"{cable.count}x", colour)
    yield from labels


def _port(cable: Cable, label: str, topology: Topology, order: Mapping[str, int], layout: Layout) -> float:
    """Return where a cable leaves a device: ports stand in the order of the devices at the other ends."""
    others = sorted(
        order[other.other if other.one == label else other.one]
        for other in topology.cables
        if label in (other.one, other.other)
    )
    there = order[cable.other if cable.one == label else cable.one]
    room = CARD - 60
    return layout.lefts[label] + 30 + room * (others.index(there) + 0.5) / len(others)


def _badge(x: float, y: float, text: str, colour: str) -> Iterator[str]:
    width = 12 + 8 * len(text)
    yield f'<rect x="{x - width / 2:g}" y="{y - 9:g}" width="{width}" height="18" rx="9" fill="{colour}"/>'
    yield _text(x, y + 4, text, "white", anchor="middle", extra=' style="font-size:11px"')


def _draw_switches(topology: Topology, layout: Layout) -> Iterator[str]:
    """Draw each switched domain as a bar under its devices, with a line from each of them."""
    rows = _stack(topology)
    for group in topology.groups:
        if not group.switched:
            continue
        top = layout.switches + 56 + (SWITCH + GAP) * rows[group.letter]
        colour = _colour(group.letter)
        left = min(layout.lefts[label] for label in group.members)
        right = max(layout.lefts[label] for label in group.members) + CARD
        for label in group.members:
            middle = layout.middle(label)
            path = f"M{middle:g} {layout.cards + layout.card_height:g}V{top:g}"
            yield f'<path d="{path}" stroke="{colour}" stroke-width="5" stroke-opacity="0.85" fill="none"/>'
        dashes = "" if group.switches else ";stroke-dasharray:7 5"
        style = f' style="stroke:{colour};stroke-width:2.5{dashes}"'
        yield _box("switch", left, top, right - left, SWITCH, radius=12, extra=style)
        yield _text((left + right) / 2, top + 30, f"{_capital(group.reach)}: {group.links}", "big", anchor="middle")
        where = " · ".join(group.switches) or "the links leave the node"
        yield _text((left + right) / 2, top + 54, where, "mono", anchor="middle")


def _stack(topology: Topology) -> dict[str, int]:
    """Return the row of each switched domain's bar: side by side, or below those that it would overlap."""
    order = {tile.label: number for number, tile in enumerate(topology.tiles)}
    rows: dict[str, int] = {}
    ends: list[int] = []
    for group in topology.groups:
        if not group.switched:
            continue
        places = [order[label] for label in group.members]
        row = next((row for row, end in enumerate(ends) if end < min(places)), len(ends))
        ends[row : row + 1] = [max(places)]
        rows[group.letter] = row
    return rows


def _draw_notes(topology: Topology, layout: Layout) -> Iterator[str]:
    for number, (text, style) in enumerate(_notes(topology)):
        yield _text(MARGIN, layout.notes + LINE * (number + 1) - 6, text, style)


def _notes(topology: Topology) -> list[tuple[str, str]]:
    """Return the lines under the picture, each with its style."""
    linked = [
        (f"{group.letter}: {shorten(group.members)}, {group.reach}, {group.links}", "fact")
        for group in topology.groups
        if not group.switched
    ]
    fabrics = [(text, "fact") for text in topology.fabrics]
    return [*linked, *fabrics, *((f"Not published: {text}", "fact bad") for text in topology.missing)]


def _colour(letter: str) -> str:
    return COLOURS[(ord(letter) - ord("A")) % len(COLOURS)]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _box(style: str, x: float, y: float, width: float, height: float, *, radius: int, extra: str = "") -> str:  # noqa: PLR0913 - a rectangle has that many sides to say
    where = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect class="{style}" {where} rx="{radius}"{extra}/>'


def _text(x: float, y: float, text: str, style: str, *, anchor: str = "start", extra: str = "") -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'
