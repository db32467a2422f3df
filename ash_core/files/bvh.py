"""Biovision `.bvh` files: a tree of joints with Euler channels, and one line of numbers a frame."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from ash_core.files.text import LineReader, bad, finite_float32, show

MAX_JOINTS = 1024
MAX_FRAMES = 1_000_000
MAX_NUMBERS = 100_000_000
"""Most channel values of a file: 800 MB."""
FPS_RANGE = (0.1, 10_000.0)
_CHANNELS = ("Xposition", "Yposition", "Zposition", "Xrotation", "Yrotation", "Zrotation")


@dataclass(frozen=True)
class Bvh:
    """A motion as its file gives it: the file's own units and axes. float64."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    """Listed before their children; -1 for the root."""
    offsets: np.ndarray
    """[J, 3] from the parent's origin."""
    tips: dict[int, np.ndarray]
    """Where the file ends a joint's bone (End Site), from the joint's origin."""
    rotations: np.ndarray
    """[F, J, 4] quaternions from parent to joint, xyzw (scipy's order)."""
    translations: np.ndarray
    """[F, J, 3] joint origins in the parent's frame."""
    fps: float

    def poses(self) -> tuple[np.ndarray, np.ndarray]:
        """Every joint's orientation [F, J, 3, 3] and place [F, J, 3] in the file's world."""
        frames, joints = self.rotations.shape[:2]
        turns = np.empty((frames, joints, 3, 3))
        places = np.empty((frames, joints, 3))
        for joint, parent in enumerate(self.parents):
            own = Rotation.from_quat(self.rotations[:, joint]).as_matrix()
            if parent < 0:
                turns[:, joint], places[:, joint] = own, self.translations[:, joint]
            else:
                turns[:, joint] = turns[:, parent] @ own
                arm = turns[:, parent] @ self.translations[:, joint, :, None]
                places[:, joint] = places[:, parent] + arm[..., 0]
        return turns, places

    def rest(self) -> np.ndarray:
        """[J, 3] places of the joints with every rotation zero, from the root."""
        places = np.zeros((len(self.names), 3))
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                places[joint] = places[parent] + self.offsets[joint]
        return places


def resample(clip: Bvh, fps: float) -> Bvh:
    """The same motion at another rate: rotations by slerp, translations linearly."""
    frames = len(clip.rotations)
    if frames == 1 or math.isclose(fps, clip.fps, rel_tol=1e-6):
        return clip
    before = np.arange(frames) / clip.fps
    count = math.floor(before[-1] * fps + 1e-6) + 1
    times = np.minimum(np.arange(count) / fps, before[-1])
    rotations = np.stack(
        [
            Slerp(before, Rotation.from_quat(clip.rotations[:, joint]))(times).as_quat()
            for joint in range(len(clip.names))
        ],
        axis=1,
    )
    low = np.minimum(np.searchsorted(before, times, side="right") - 1, frames - 2)
    share = ((times - before[low]) * clip.fps)[:, None, None]
    translations = clip.translations[low] * (1 - share) + clip.translations[low + 1] * share
    return Bvh(
        clip.names, clip.parents, clip.offsets, clip.tips, rotations, translations, float(fps)
    )


def read_bvh(path: Path | str) -> Bvh:
    """Read a `.bvh`. Of several roots the first is taken: files have one."""
    reader = LineReader(path)
    reader.header("HIERARCHY")
    tree = _read_tree(reader)
    reader_fps = _read_timing(reader)
    values = _read_frames(reader, tree, *reader_fps[:1])
    frames, joints = len(values), len(tree.names)
    rotations = np.zeros((frames, joints, 4))
    translations = np.broadcast_to(np.array(tree.offsets), (frames, joints, 3)).copy()
    column = 0
    for joint, channels in enumerate(tree.channels):
        block = values[:, column : column + len(channels)]
        column += len(channels)
        axes = "".join(name[0] for name in channels if name.endswith("rotation"))
        turns = [n for n, name in enumerate(channels) if name.endswith("rotation")]
        rotations[:, joint] = _quaternions(axes, block[:, turns])
        for n, name in enumerate(channels):
            if name.endswith("position"):
                # The channel stands in the offset's place, as every writer has it.
                translations[:, joint, "XYZ".index(name[0])] = block[:, n]
    return Bvh(
        names=tuple(tree.names),
        parents=tuple(tree.parents),
        offsets=np.array(tree.offsets),
        tips=tree.tips,
        rotations=rotations,
        translations=translations,
        fps=reader_fps[1],
    )


def _quaternions(axes: str, degrees: np.ndarray) -> np.ndarray:
    """Turns about the joint's own axes, the first channel outermost."""
    if not axes:
        return np.tile([0.0, 0.0, 0.0, 1.0], (len(degrees), 1))
    total = Rotation.identity(len(degrees))
    for n, axis in enumerate(axes):
        total = total * Rotation.from_euler(axis.lower(), degrees[:, [n]], degrees=True)
    return total.as_quat()


class _Tree:
    """The HIERARCHY while it is read."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.parents: list[int] = []
        self.offsets: list[list[float]] = []
        self.channels: list[list[str]] = []
        self.tips: dict[int, np.ndarray] = {}


def _read_tree(reader: LineReader) -> _Tree:
    """Everything up to MOTION; a stack, not recursion: depth is the file's choice."""
    tree, stack = _Tree(), []
    words = reader.next("ROOT").split()
    if words[0].upper() != "ROOT":
        raise reader.bad(f"expected 'ROOT name', got {show(' '.join(words))}")
    _open(reader, tree, stack, " ".join(words[1:]))
    while stack:
        words = reader.next("a joint, its offset, its channels or '}'").split()
        match words[0].upper():
            case "OFFSET":
                _offset(reader, tree, stack[-1], words[1:])
            case "CHANNELS":
                _channels(reader, tree, stack[-1], words[1:])
            case "JOINT":
                _open(reader, tree, stack, " ".join(words[1:]))
            case "END":
                _open(reader, tree, stack, None)
            case "}":
                stack.pop()
            case _:
                raise reader.bad(
                    f"expected OFFSET, CHANNELS, JOINT, End Site or '}}', got {show(words[0])}"
                )
    return tree


_TIP = -1


def _open(reader: LineReader, tree: _Tree, stack: list[int], name: str | None) -> None:
    """A joint, or with name None an End Site, up to its '{'."""
    if stack and stack[-1] < 0:
        raise reader.bad("expected '}' of the End Site, got a joint inside it")
    if name is None:
        stack.append(_TIP - stack[-1])
    else:
        if not name:
            raise reader.bad("expected a name for the joint, got none")
        if name in tree.names:
            raise reader.bad(f"expected a new joint name, got {show(name)} again")
        if len(tree.names) == MAX_JOINTS:
            raise reader.bad(f"expected at most {MAX_JOINTS} joints")
        tree.names.append(name)
        tree.parents.append(stack[-1] if stack else -1)
        tree.offsets.append([0.0, 0.0, 0.0])
        tree.channels.append([])
        stack.append(len(tree.names) - 1)
    if (line := reader.next("'{'")) != "{":
        raise reader.bad(f"expected '{{', got {show(line)}")


def _offset(reader: LineReader, tree: _Tree, joint: int, words: list[str]) -> None:
    if len(words) != 3:
        raise reader.bad(f"expected OFFSET with three numbers, got {len(words)}")
    values = [reader.number(word, "an offset") for word in words]
    if joint < 0:
        tree.tips[_TIP - joint] = np.array(values)
    else:
        tree.offsets[joint] = values


def _channels(reader: LineReader, tree: _Tree, joint: int, words: list[str]) -> None:
    if joint < 0 or not words:
        raise reader.bad("expected CHANNELS of a joint with their number")
    count = reader.count(words[0], "channels", len(_CHANNELS))
    names = [word[:1].upper() + word[1:].lower() for word in words[1:]]
    unknown = [name for name in names if name not in _CHANNELS]
    if unknown or len(names) != count or len(set(names)) != count:
        wanted = f"{count} different ones of {', '.join(_CHANNELS)}"
        raise reader.bad(f"expected {wanted}, got {show(' '.join(words[1:]))}")
    if tree.channels[joint]:
        raise reader.bad(f"expected CHANNELS of {show(tree.names[joint])} once, got them again")
    tree.channels[joint] = names


def _read_timing(reader: LineReader) -> tuple[int, float]:
    """(frames, frames a second)."""
    while (line := reader.next("MOTION")).upper() != "MOTION":
        if line.split()[0].upper() == "ROOT":
            raise reader.bad("expected one ROOT, got a second one")
        raise reader.bad(f"expected MOTION, got {show(line)}")
    head, _, count = reader.next("'Frames: count'").partition(":")
    if head.strip().lower() != "frames":
        raise reader.bad(f"expected 'Frames: count', got {show(head)}")
    frames = reader.count(count.strip(), "frames", MAX_FRAMES)
    head, _, text = reader.next("'Frame Time: seconds'").partition(":")
    if head.strip().lower() != "frame time":
        raise reader.bad(f"expected 'Frame Time: seconds', got {show(head)}")
    seconds = reader.number(text.strip(), "the frame time")
    low, high = FPS_RANGE
    if not 1.0 / high <= seconds <= 1.0 / low:
        raise reader.bad(f"expected a frame time of {1 / high:g} to {1 / low:g} s, got {seconds:g}")
    return frames, 1.0 / seconds


def _read_frames(reader: LineReader, tree: _Tree, frames: int) -> np.ndarray:
    """[F, channels] float64. A file cut short is an error, not a shorter motion."""
    width = sum(map(len, tree.channels))
    if not width:
        raise reader.bad("expected at least one channel, got none")
    if frames * width > MAX_NUMBERS:
        raise reader.bad(f"expected at most {MAX_NUMBERS} numbers, got {frames * width}")
    last = reader.line
    rows = reader.rest()
    if len(rows) != frames or not frames:
        wanted = f"{frames} frames" if frames else "at least one frame"
        raise bad(reader.path, last, f"expected {wanted}, one a line, got {len(rows)} lines")
    values = np.empty((frames, width))
    for n, (line, text) in enumerate(rows):
        words = text.split()
        if len(words) != width:
            text = f"expected {width} numbers (the joints' channels), got {len(words)}"
            raise bad(reader.path, line, text)
        try:
            values[n] = [float(word) for word in words]
        except ValueError as error:
            raise bad(reader.path, line, f"expected numbers: {show(str(error))}") from None
    fine = finite_float32(values) & (np.abs(values).max(1) < 1e9)
    if not fine.all():
        line = rows[int(fine.argmin())][0]
        raise bad(reader.path, line, "expected finite numbers below 1e9")
    return values
