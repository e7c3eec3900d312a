"""The picture of a node for a terminal. Called by `accel-dra inventory --topology`.

It promises plain lines in box-drawing characters, without colour, as narrow as what is in them allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from driver.core.topology import Group, Root, Socket, Tile, Topology, shorten

GAP: Final = "   "


def draw(topology: Topology, width: int = 100) -> str:
    """Return the picture as text that ends with a newline. Sockets stand side by side where `width` allows."""
    rows = _place([_draw_socket(socket) for socket in topology.sockets], width)
    switched = [group for group in topology.groups if group.switched]
    direct = [group for group in topology.groups if not group.switched]
    blocks = [[topology.title, topology.subtitle], *rows]
    if len(rows) == 1 and len(switched) == 1:
        blocks[-1] = rows[0] + _hang(topology, switched[0], len(rows[0][0]))
    else:
        blocks += [_draw_switches(group, 0) for group in switched]
    blocks += [[f"{group.letter}  {shorten(group.members)}: {group.reach}", f"   {group.links}"] for group in direct]
    if topology.cables:
        blocks.append(_draw_matrix(topology))
    if topology.fabrics:
        blocks.append(list(topology.fabrics))
    if topology.missing:
        blocks.append(["Not published:", *(f"  ✗ {text}" for text in topology.missing)])
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks) + "\n"


def _draw_socket(socket: Socket) -> list[str]:
    """Return a box with a line for each device, joined to its PCIe root."""
    rows = [line for root in socket.roots for line in _draw_root(root, _widths(socket.tiles))]
    inner = max([len(socket.name) + 4, *(len(row) for row in rows)])
    top = f"╭─ {socket.name} " + "─" * (inner - len(socket.name) - 1) + "╮"
    return [top, *(f"│ {row.ljust(inner)} │" for row in rows), "╰" + "─" * (inner + 2) + "╯"]


def _draw_root(root: Root, widths: tuple[int, ...]) -> Iterable[str]:
    """Yield `pci0000:26 ─┬─ GPU 0 …` and a line for each further device of the root."""
    for number, tile in enumerate(root.tiles):
        last = number == len(root.tiles) - 1
        stem = ("───" if last else "─┬─") if number == 0 else (" ╰─" if last else " ├─")
        lead = root.name if number == 0 else " " * len(root.name)
        yield f"{lead} {stem} {_draw_tile(tile, widths)}"


def _draw_tile(tile: Tile, widths: tuple[int, ...]) -> str:
    cells = (tile.label, tile.address, tile.summary, tile.group, tile.state)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True) if width).rstrip()


def _widths(tiles: Sequence[Tile]) -> tuple[int, ...]:
    rows = [(tile.label, tile.address, tile.summary, tile.group, tile.state) for tile in tiles]
    return tuple(max(len(cell) for cell in column) for column in zip(*rows, strict=True))


def _place(boxes: Sequence[list[str]], width: int) -> list[list[str]]:
    """Return rows of boxes: as many side by side as fit."""
    rows: list[list[str]] = []
    for box in boxes:
        if rows and len(rows[-1][0]) + len(GAP) + len(box[0]) <= width:
            rows[-1] = _join(rows[-1], box)
        else:
            rows.append(list(box))
    return rows


def _join(left: list[str], right: list[str]) -> list[str]:
    height = max(len(left), len(right))
    pads = [box + [" " * len(box[0])] * (height - len(box)) for box in (left, right)]
    return [f"{one}{GAP}{other}" for one, other in zip(*pads, strict=True)]


def _hang(topology: Topology, group: Group, width: int) -> list[str]:
    """Return the switches under a row of sockets, with a line down from each socket that has members."""
    left, stems = 0, []
    for socket in topology.sockets:
        size = len(_draw_socket(socket)[0])
        if any(tile.label in group.members for tile in socket.tiles):
            stems.append(left + size // 2)
        left += size + len(GAP)
    box = _draw_switches(group, width)
    line = "".join("║" if at in stems else " " for at in range(width))
    top = "".join("╩" if at in stems else char for at, char in enumerate(box[0]))
    return [line, top, *box[1:]]


def _draw_switches(group: Group, width: int) -> list[str]:
    """Return a double-lined box at least `width` wide that stands for all switches of a domain."""
    lines = [f"{group.letter}  {shorten(group.members)}: {group.reach}", f"   {group.links}"]
    if group.switches:
        lines.append("   " + "  ".join(group.switches))
    inner = max(width - 4, *(len(line) for line in lines))
    return [
        "╔" + "═" * (inner + 2) + "╗",
        *(f"║ {line.ljust(inner)} ║" for line in lines),
        "╚" + "═" * (inner + 2) + "╝",
    ]


def _draw_matrix(topology: Topology) -> list[str]:
    """Return a table of the direct links between each two devices."""
    names = [tile.label for tile in topology.tiles if any(tile.label in (c.one, c.other) for c in topology.cables)]
    counts = {frozenset((cable.one, cable.other)): cable.count for cable in topology.cables}
    size = max(len(name) for name in names)
    lines = ["Direct links", " " * size + "".join(f"  {name:>{size}}" for name in names)]
    for name in names:
        cells = ["·" if name == other else counts.get(frozenset((name, other)), "-") for other in names]
        lines.append(name.ljust(size) + "".join(f"  {cell:>{size}}" for cell in cells))
    return lines
