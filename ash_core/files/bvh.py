"""Biovision `.bvh` files: a tree of joints with Euler channels, and one row of numbers a frame.

The format is words, not lines: writers put braces and rows where they like.
"""

import math
import re
from array import array
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from ash_core.errors import InputError
from ash_core.files.io import (
    MAX_NUMBER,
    bad,
    finite_float32,
    parse_count,
    parse_number,
    read_lines,
    shorten,
    show,
)
from ash_core.geometry.motion import find_cuts

MAX_JOINTS = 1024
MAX_FRAMES = 1_000_000
MAX_NUMBERS = 100_000_000
"""Upper bound on the channel values of a file: 800 MB."""
FPS_RANGE = (0.1, 10_000.0)
_CHANNELS = ("Xposition", "Yposition", "Zposition", "Xrotation", "Yrotation", "Zrotation")


@dataclass(frozen=True)
class Bvh:
    """Motion in its file's own units and axes. float64."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    """Index of each joint's parent, which is listed before it; -1 for the root."""
    offsets: np.ndarray
    """[J, 3] from the parent's origin."""
    tips: dict[int, np.ndarray]
    """Ends of the bones (End Site), from their joint's origin."""
    rotations: np.ndarray
    """[F, J, 4] quaternions from parent to joint, xyzw (scipy's order)."""
    translations: np.ndarray
    """[F, J, 3] joint origins in the parent's frame."""
    fps: float
    takes: tuple[int, ...] = (0,)
    """First frames of the takes: 0, and frames that no body reaches from the frame before."""
    rest_frames: int = 0
    """Frames at the start that only show a rest pose, which the motion then leaves at once."""
    notes: tuple[str, ...] = ()
    """Peculiarities of the file that its reader should report."""

    def poses(self) -> tuple[np.ndarray, np.ndarray]:
        """Return every joint's orientation [F, J, 3, 3] and place [F, J, 3] in the file's world."""
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
        """Return the places [J, 3] of the joints with every rotation zero, from the root."""
        places = np.zeros((len(self.names), 3))
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                places[joint] = places[parent] + self.offsets[joint]
        return places


def resample(clip: Bvh, fps: float) -> Bvh:
    """Return the same motion at another rate: rotations by slerp, translations linearly.

    Each take is sampled by itself: poses on both sides of a cut never mix.
    """
    frames = len(clip.rotations)
    if frames == 1 or math.isclose(fps, clip.fps, rel_tol=1e-6):
        return clip
    ends = (*clip.takes[1:], frames)
    parts = [_resample(clip, a, b, fps) for a, b in zip(clip.takes, ends, strict=True)]
    starts = np.cumsum([0, *(len(part[0]) for part in parts)]).tolist()
    return replace(
        clip,
        rotations=np.concatenate([part[0] for part in parts]),
        translations=np.concatenate([part[1] for part in parts]),
        fps=float(fps),
        takes=tuple(starts[:-1]),
        rest_frames=starts[1] if clip.rest_frames else 0,
    )


def _resample(clip: Bvh, start: int, stop: int, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Resample rotations and translations of one take at another rate."""
    rotations, translations = clip.rotations[start:stop], clip.translations[start:stop]
    frames = stop - start
    if frames == 1:
        return rotations, translations
    before = np.arange(frames) / clip.fps
    count = math.floor(before[-1] * fps + 1e-6) + 1
    times = np.minimum(np.arange(count) / fps, before[-1])
    turned = np.stack(
        [
            Slerp(before, Rotation.from_quat(rotations[:, joint]))(times).as_quat()
            for joint in range(len(clip.names))
        ],
        axis=1,
    )
    low = np.minimum(np.searchsorted(before, times, side="right") - 1, frames - 2)
    share = ((times - before[low]) * clip.fps)[:, None, None]
    return turned, translations[low] * (1 - share) + translations[low + 1] * share


def read_bvh(path: Path | str) -> Bvh:
    """Read a `.bvh`: its first figure; a note names the others."""
    words = _Words(path)
    words.expect("HIERARCHY")
    trees = _read_trees(words)
    frames, fps = _read_timing(words)
    values, notes = _read_frames(words, sum(tree.width for tree in trees), frames)
    # A root alone is a prop or a reference point, wherever it stands.
    index = next((n for n, tree in enumerate(trees) if len(tree.names) > 1), 0)
    tree, column = trees[index], sum(tree.width for tree in trees[:index])
    if len(trees) > 1:
        others = ", ".join(other.names[0] for n, other in enumerate(trees) if n != index)
        text = f"{len(trees)} figures: {tree.names[0]} is taken, left out: {others}"
        notes.append(shorten(text, 400))
    rotations, translations = _joint_motion(tree, values[:, column : column + tree.width])
    clip = Bvh(
        names=tuple(tree.names),
        parents=tuple(tree.parents),
        offsets=np.array(tree.offsets),
        tips=tree.tips,
        rotations=rotations,
        translations=translations,
        fps=fps,
        notes=tuple(notes),
    )
    return with_takes(clip)


def _joint_motion(tree: "_Tree", values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute rotations [F, J, 4] and translations [F, J, 3] of a figure's channels."""
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
    return rotations, translations


HEIGHT_M = 1.7
"""Assumed height of the figure at rest, its longest side: files do not state their unit."""
REST_DEGREES = 1.0
REST_FACTOR = 4.0
"""Factor by which the step out of the file's own zero pose may be slower than other cuts. A zero
pose at the start is evidence of a rest pose by itself."""
REST_S, STILL_M_PER_S = 1.0, 0.05
"""Longest duration and highest speed of a rest pose at the start that the motion leaves at once."""
RETURN_M = 0.05
"""Largest distance between the poses before and after a stray frame that does not cut the
motion."""


def with_takes(clip: Bvh) -> Bvh:
    """Find the cuts of a clip, and a rest pose before the first of them."""
    rest = clip.rest()
    size = float(np.ptp(rest, axis=0).max())
    if not size > 0:
        return clip
    turns, places = clip.poses()
    metres = torch.from_numpy(places * (HEIGHT_M / size))
    root_turns = torch.from_numpy(turns[:, 0])
    cuts = find_cuts(metres, root_turns, clip.fps).nonzero().flatten().tolist()
    # The file's own zero pose first is evidence by itself.
    own = np.degrees(Rotation.from_quat(clip.rotations[0]).magnitude())[1:]
    is_zero = np.max(own, initial=0.0) < REST_DEGREES
    if is_zero and find_cuts(metres * REST_FACTOR, root_turns, clip.fps)[1:2].any():
        cuts = sorted({1, *cuts})
    if not cuts:
        return clip
    steps = torch.linalg.vector_norm(metres[1 : cuts[0]] - metres[: cuts[0] - 1], dim=-1)
    is_still = not steps.numel() or float(steps.max()) * clip.fps < STILL_M_PER_S
    # A stray frame interrupts a pose and does not end it.
    around = metres[[cuts[0] - 1, min(cuts[0] + 1, len(metres) - 1)]]
    reach = float(torch.linalg.vector_norm(around[1] - around[0], dim=-1).max())
    goes_on = cuts[0] + 1 in cuts and reach < RETURN_M
    is_rest = is_still and not goes_on and cuts[0] <= max(1.0, REST_S * clip.fps)
    return replace(clip, takes=(0, *cuts), rest_frames=cuts[0] if is_rest else 0)


def _quaternions(axes: str, degrees: np.ndarray) -> np.ndarray:
    """Compose turns about the joint's own axes, the first channel outermost."""
    if not axes:
        return np.tile([0.0, 0.0, 0.0, 1.0], (len(degrees), 1))
    total = Rotation.identity(len(degrees))
    for n, axis in enumerate(axes):
        total = total * Rotation.from_euler(axis.lower(), degrees[:, [n]], degrees=True)
    return total.as_quat()


class _Tree:
    """Figure of the HIERARCHY during reading."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.parents: list[int] = []
        self.offsets: list[list[float]] = []
        self.channels: list[list[str]] = []
        self.tips: dict[int, np.ndarray] = {}

    @property
    def width(self) -> int:
        """Return the number of values in a row of the figure."""
        return sum(map(len, self.channels))


_WORD = re.compile(r"[{}]|[^\s{}]+")
_KEYWORDS = ("ROOT", "JOINT", "END", "ENDSITE", "OFFSET", "CHANNELS", "MOTION", "{", "}")


class _Words:
    """Word reader of a file, whose errors name the line. Braces are words wherever they stand."""

    def __init__(self, path: Path | str) -> None:
        self.path, self.line = path, 1
        self._lines = read_lines(path)
        self._next_line = 0
        self._here: list[str] = []
        """Words of the current line that are not read yet, the last one first."""

    def bad(self, text: str) -> InputError:
        """Make the error for the current line."""
        return bad(self.path, self.line, text)

    def next(self, expected: str) -> str:
        """Read a word; the file must not end before it."""
        line = self.line
        while not self._here:
            if self._next_line == len(self._lines):
                self.line = line
                raise self.bad(f"expected {expected} after this line, found the end of the file")
            self._here = _WORD.findall(self._lines[self._next_line])[::-1]
            self._next_line += 1
        self.line = self._next_line
        return self._here.pop()

    def expect(self, word: str) -> None:
        """Read exactly this word, in whatever case."""
        if (text := self.next(f"'{word}'")).upper() != word:
            raise self.bad(f"expected '{word}', got {show(text)}")

    def name(self) -> str:
        """Read a joint's name: the words of this line up to a brace."""
        words = []
        while self._here and self._here[-1] not in "{}":
            words.append(self._here.pop())
        return " ".join(words)

    def number(self, what: str) -> float:
        """Read a finite number."""
        text = self.next(what)
        if text.upper() in _KEYWORDS:
            raise self.bad(f"expected {what}, got {show(text)}")
        try:
            value = parse_number(text)
        except ValueError:
            raise self.bad(f"expected {what}, got {show(text)}") from None
        if not abs(value) < MAX_NUMBER:  # also refuses NaN
            raise self.bad(f"expected {what}: a finite number, got {show(text)}")
        return value

    def count(self, what: str, limit: int) -> int:
        """Read a count, which no array is allocated for before it is checked."""
        text = self.next(f"the number of {what}")
        try:
            return parse_count(text, limit)
        except ValueError:
            expected = f"expected the number of {what}, 0 to {limit}"
            raise self.bad(f"{expected}, got {show(text)}") from None

    def label(self, label: str) -> None:
        """Read a label such as 'Frame Time:', with or without blanks, up to its colon."""
        text = ""
        while ":" not in text:
            text += self.next(f"'{label}:'")
            if len(text) > len(label) + 1 and ":" not in text:
                break
        head, _, after = text.partition(":")
        if ":" not in text or head.lower() != label.lower().replace(" ", ""):
            raise self.bad(f"expected '{label}:', got {show(text)}")
        if after:
            self._here.append(after)

    def rest(self) -> list[tuple[int, list[str]]]:
        """Read all remaining words, by line."""
        lines = [(self.line, self._here[::-1])]
        self._here = []
        following = enumerate(self._lines[self._next_line :], start=self._next_line + 1)
        lines += [(number, text.split()) for number, text in following]
        self._next_line = len(self._lines)
        return [(number, words) for number, words in lines if words]


def _read_trees(words: _Words) -> list[_Tree]:
    """Read everything up to MOTION: a tree for each ROOT."""
    trees: list[_Tree] = []
    while (word := words.next("'ROOT name' or MOTION").upper()) != "MOTION":
        if word != "ROOT":
            raise words.bad(f"expected {'MOTION' if trees else 'ROOT'}, got {show(word)}")
        trees.append(_read_tree(words, sum(len(tree.names) for tree in trees)))
    if not trees:
        raise words.bad("expected 'ROOT name' before MOTION, found none")
    return trees


def _read_tree(words: _Words, before: int) -> _Tree:
    """Read one figure; a stack, not recursion: depth is the file's choice."""
    tree, stack = _Tree(), []
    _open(words, tree, stack, words.name(), before)
    while stack:
        word = words.next("a joint, its offset, its channels or '}'")
        match word.upper():
            case "OFFSET":
                _offset(words, tree, stack[-1])
            case "CHANNELS":
                _channels(words, tree, stack[-1])
            case "JOINT":
                _open(words, tree, stack, words.name(), before)
            case "END" | "ENDSITE":
                words.name()
                _open(words, tree, stack, None, before)
            case "}":
                stack.pop()
            case _:
                raise words.bad(
                    f"expected OFFSET, CHANNELS, JOINT, End Site or '}}', got {show(word)}"
                )
    return tree


_TIP = -1


def _open(words: _Words, tree: _Tree, stack: list[int], name: str | None, before: int) -> None:
    """Open a joint, or an End Site without a name, up to its '{'. before: joints of other
    figures."""
    if stack and stack[-1] < 0:
        raise words.bad("expected '}' of the End Site, got a joint inside it")
    if name is None:
        stack.append(_TIP - stack[-1])
    else:
        if not name:
            raise words.bad("expected a name for the joint, got none")
        if name in tree.names:
            raise words.bad(f"expected a new joint name, got {show(name)} again")
        if before + len(tree.names) == MAX_JOINTS:
            raise words.bad(f"expected at most {MAX_JOINTS} joints")
        tree.names.append(name)
        tree.parents.append(stack[-1] if stack else -1)
        tree.offsets.append([0.0, 0.0, 0.0])
        tree.channels.append([])
        stack.append(len(tree.names) - 1)
    words.expect("{")


def _offset(words: _Words, tree: _Tree, joint: int) -> None:
    values = [words.number("OFFSET with three numbers") for _ in range(3)]
    if joint < 0:
        tree.tips[_TIP - joint] = np.array(values)
    else:
        tree.offsets[joint] = values


def _channels(words: _Words, tree: _Tree, joint: int) -> None:
    if joint < 0:
        raise words.bad("expected CHANNELS of a joint, got some of an End Site")
    count = words.count("channels", len(_CHANNELS))
    labels = [words.next("a channel") for _ in range(count)]
    names = [word[:1].upper() + word[1:].lower() for word in labels]
    if not set(names) <= set(_CHANNELS) or len(set(names)) != count:
        kinds = f"{count} different ones of {', '.join(_CHANNELS)}"
        raise words.bad(f"expected {kinds}, got {show(' '.join(labels))}")
    if tree.channels[joint]:
        raise words.bad(f"expected CHANNELS of {show(tree.names[joint])} once, got them again")
    tree.channels[joint] = names


def _read_timing(words: _Words) -> tuple[int, float]:
    """Read (frames, frames a second)."""
    words.label("Frames")
    frames = words.count("frames", MAX_FRAMES)
    words.label("Frame Time")
    seconds = words.number("a number for the frame time")
    low, high = FPS_RANGE
    if not 1.0 / high <= seconds <= 1.0 / low:
        raise words.bad(f"expected a frame time of {1 / high:g} to {1 / low:g} s, got {seconds:g}")
    return frames, 1.0 / seconds


def _read_frames(words: _Words, width: int, frames: int) -> tuple[np.ndarray, list[str]]:
    """Read [F, width] float64, and notes on rows that are missing or left over.

    Some writers announce one row more or fewer than they write. If several rows are missing, the
    file was cut short, which is an error.
    """
    # Refuse impossible sizes.
    if not width:
        raise words.bad("expected at least one channel, got none")
    if not frames:
        raise words.bad("expected at least one frame, got 'Frames: 0'")
    if frames * width > MAX_NUMBERS:
        raise words.bad(f"expected at most {MAX_NUMBERS} numbers, got {frames * width}")
    # Read the numbers, and remember the line of each row.
    last = words.line
    numbers, lines, ends = array("d"), [], []
    for line, row in words.rest():
        try:
            # `parse_number` for every word would take longer than all other steps.
            numbers.extend(map(parse_number if "_" in "".join(row) else float, row))
        except ValueError as error:
            raise bad(words.path, line, f"expected numbers: {show(str(error))}") from None
        if len(numbers) > MAX_NUMBERS:
            raise bad(words.path, line, f"expected at most {MAX_NUMBERS} numbers, got more")
        lines.append(line)
        ends.append(len(numbers))
    # Refuse rows of a wrong length where a line is a row. The last row may be cut short.
    if len(lines) == frames:
        lengths = np.diff([0, *ends])
        wrong = np.flatnonzero(lengths[:-1] != width)
        if len(wrong) or lengths[-1] > width:
            n = int(wrong[0]) if len(wrong) else frames - 1
            text = f"expected {width} numbers (the joints' channels), got {lengths[n]}"
            raise bad(words.path, lines[n], text)
    # Count whole rows; one more or fewer than announced gives a note.
    rows, over = divmod(len(numbers), width)
    if rows < max(frames - 1, 1):
        text = f"expected {frames} frames of {width} numbers, got {rows} whole ones"
        raise bad(words.path, lines[-1] if lines else last, text)
    notes = []
    if rows != frames:
        notes.append(
            f"the file announces {frames} frames and holds {rows} whole ones: these are taken"
        )
    if over:
        notes.append(f"the file ends within a row: its last {over} of {width} numbers are left out")
    # Refuse numbers out of range, at their line.
    values = np.frombuffer(numbers, count=rows * width).reshape(rows, width)
    fine = finite_float32(values) & (np.abs(values).max(1) < 1e9)
    if not fine.all():
        row = int(fine.argmin())
        is_wrong = ~(np.abs(values[row]) < 1e9)
        line = lines[bisect_right(ends, row * width + int(is_wrong.argmax()))]
        raise bad(words.path, line, "expected finite numbers below 1e9")
    return values, notes
