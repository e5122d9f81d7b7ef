"""What a run asked of the disk, and what of it is there after a power cut.

The model is that of a journalling file system: of the entries of a folder, those up to some moment
are there, and at least those up to its last sync; of a file, every piece that was written behind
its last sync is there, or not, or is garbage, each by itself. SQLite is tested against the same
(`src/test6.c`).
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Op:
    """A call that changed something."""

    number: int
    what: str
    path: str
    other: str
    data: bytes

    @property
    def kind(self) -> str:
        """The call without what differs from run to run, from step to step, from file to file."""
        path = re.sub(r"partial-\w{8}(?=/|$)|\d{9}", "*", self.path)
        return f"{self.what} {re.sub(r'(config|chat|tokenizer|generation)[^/]*$', 'small', path)}"


def read_log(log: Path, root: Path) -> list[Op]:
    """The calls under a folder, with paths from there."""
    content, ops, at = log.read_bytes(), [], 0
    while at < len(content):
        end = content.index(b"\n", at)
        number, what, path, other, size = content[at:end].decode().split("\t")
        at = end + 1 + (int(size) if what == "write" else 0)
        here, there = (one.removeprefix(str(root)).removeprefix("/") for one in (path, other))
        ops.append(Op(int(number), what, here, there, content[end + 1 : at]))
    return ops


@dataclass
class File:
    """Everything that was ever written into a file, as (time, piece), and when it was synced."""

    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    synced: int = -1


@dataclass
class Folder:
    """Everything that ever happened to the entries of a folder, as (time, name, what it is now)."""

    changes: list[tuple[int, str, File | Folder | None]] = field(default_factory=list)
    synced: int = -1

    def entries(self, until: int) -> dict[str, File | Folder]:
        """Its entries after a moment."""
        found: dict[str, File | Folder] = {}
        for time, name, node in self.changes:
            if time > until:
                break
            if node is None:
                found.pop(name, None)
            else:
                found[name] = node
        return found


class Disk:
    """The calls of a run up to one of them, and what may be left of them."""

    def __init__(self, ops: list[Op]) -> None:
        self._root = Folder()
        self._now = len(ops)
        for time, op in enumerate(ops):
            self._do(time, op)

    def _folder(self, path: str) -> tuple[Folder, str]:
        *above, name = path.split("/")
        folder = self._root
        for part in above:
            below = folder.entries(self._now)[part]
            assert isinstance(below, Folder)
            folder = below
        return folder, name

    def _do(self, time: int, op: Op) -> None:
        if not op.path:
            if op.what == "sync":
                self._root.synced = time
            return
        folder, name = self._folder(op.path)
        node = folder.entries(self._now).get(name)
        if op.what == "write":
            assert isinstance(node, File)
            node.pieces.append((time, op.data))
        elif op.what == "sync":
            assert node is not None
            node.synced = time
        elif op.what == "rename":
            # Within one folder; both entries change in one stroke.
            target = op.other.rpartition("/")[2]
            folder.changes += [(time, name, None), (time, target, node)]
        elif op.what == "unlink":
            folder.changes.append((time, name, None))
        elif op.what == "mkdir":
            folder.changes.append((time, name, Folder()))
        elif node is None or op.what == "truncate":
            folder.changes.append((time, name, File()))

    def after_power_cut(self, to: Path, draw: random.Random) -> None:
        """Build one of the states that may be left."""
        self._build(self._root, to, draw)

    def as_written(self, to: Path) -> None:
        """Build what is there if nothing is lost."""
        self._build(self._root, to, None)

    def _build(self, folder: Folder, to: Path, draw: random.Random | None) -> None:
        to.mkdir()
        times = sorted({time for time, _, _ in folder.changes if time > folder.synced})
        until = self._now
        if draw is not None:
            until = draw.choice([folder.synced, *times])
        for name, node in folder.entries(until).items():
            if isinstance(node, Folder):
                self._build(node, to / name, draw)
            else:
                (to / name).write_bytes(_content(node, draw))


def _content(file: File, draw: random.Random | None) -> bytes:
    parts = []
    kept = 0
    for number, (time, piece) in enumerate(file.pieces, 1):
        fate = "kept"
        if draw is not None and time > file.synced:
            fate = draw.choice(("kept", "dropped", "garbage"))
        parts.append({"kept": piece, "dropped": bytes(len(piece))}.get(fate) or _garbage(piece))
        if fate != "dropped":
            kept = number
    # What is dropped at the end does not make the file longer either.
    synced = sum(time <= file.synced for time, _ in file.pieces)
    return b"".join(parts[: max(kept, synced)])


def _garbage(piece: bytes) -> bytes:
    return random.Random(len(piece)).randbytes(len(piece))


def commits(ops: list[Op]) -> dict[int, tuple[int, int]]:
    """Of each step the places in `ops` where its checkpoint gets its name and where it keeps it."""
    found: dict[int, tuple[int, int]] = {}
    names: dict[int, int] = defaultdict(int)
    for place, op in enumerate(ops):
        match = re.fullmatch(r"checkpoints/step-(\d{9})", op.other)
        if op.what == "rename" and match:
            names[int(match[1])] = place
        if op.what == "sync" and op.path == "checkpoints":
            for step, named in names.items():
                found.setdefault(step, (named, place))
    return found
