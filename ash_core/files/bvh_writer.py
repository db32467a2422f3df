"""Writer of Biovision `.bvh` files; `bvh` reads them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from ash_core.files.bvh import Bvh
from ash_core.files.io import write_atomic

CM_PER_M: Final = 100.0
"""Centimetres, as most programs read the format, which states no unit."""
ORDER: Final = "ZXY"
"""Order of the rotation channels, the outermost first."""
STILL_M: Final = 1e-6
"""Largest change of a joint's place in its parent's frame that needs no channels."""


def write_bvh(path: Path | str, clip: Bvh) -> None:
    """Write a motion whose places are in metres, as centimetres; axes stay. Raises: InputError.

    The root has channels for its place, and so has each joint that moves in its parent's frame.
    """
    moves = [
        parent < 0
        or float(np.abs(clip.translations[:, joint] - clip.offsets[joint]).max()) > STILL_M
        for joint, parent in enumerate(clip.parents)
    ]
    columns = []
    for joint in _listed(clip.parents):
        if moves[joint]:
            columns.append(CM_PER_M * clip.translations[:, joint])
        columns.append(_degrees(clip.rotations[:, joint]))
    values = np.concatenate(columns, axis=1)
    head = [*_hierarchy(clip, moves), "MOTION", f"Frames: {len(values)}"]
    head.append(f"Frame Time: {1.0 / clip.fps:.10f}\n")
    rows = (" ".join(f"{value:.6f}" for value in row) + "\n" for row in values.tolist())
    write_atomic(path, _encode("\n".join(head), rows))


def _encode(head: str, rows: Iterator[str]) -> Iterator[bytes]:
    yield head.encode()
    for row in rows:
        yield row.encode()


def _children(parents: tuple[int, ...], joint: int) -> list[int]:
    return [child for child, parent in enumerate(parents) if parent == joint]


def _listed(parents: tuple[int, ...]) -> list[int]:
    """List the joints in the order of the file: each before what hangs from it."""
    order, waiting = [], _children(parents, -1)
    while waiting:
        joint = waiting.pop()
        order.append(joint)
        waiting += _children(parents, joint)[::-1]
    return order


def _degrees(quaternions: Float[ndarray, "F 4"]) -> Float[ndarray, "F 3"]:
    """Return the angles of the rotation channels, without jumps by whole turns."""
    with np.errstate(all="ignore"):
        angles = Rotation.from_quat(quaternions).as_euler(ORDER, degrees=True)
    return np.unwrap(angles, period=360.0, axis=0)


def _hierarchy(clip: Bvh, moves: list[bool]) -> Iterator[str]:
    """Write the tree of joints, line by line."""
    yield "HIERARCHY"
    turns = " ".join(f"{letter}rotation" for letter in ORDER)
    open_joints: list[int] = []
    for joint in _listed(clip.parents):
        while open_joints and open_joints[-1] != clip.parents[joint]:
            open_joints.pop()
            yield "\t" * len(open_joints) + "}"
        indent = "\t" * len(open_joints)
        yield f"{indent}{'JOINT' if open_joints else 'ROOT'} {clip.names[joint]}"
        open_joints.append(joint)
        yield f"{indent}{{"
        yield f"{indent}\tOFFSET {_place(clip.offsets[joint])}"
        slides = "Xposition Yposition Zposition " if moves[joint] else ""
        yield f"{indent}\tCHANNELS {6 if moves[joint] else 3} {slides}{turns}"
        if not _children(clip.parents, joint):
            tip = clip.tips.get(joint, np.zeros(3))
            yield f"{indent}\tEnd Site"
            yield f"{indent}\t{{"
            yield f"{indent}\t\tOFFSET {_place(tip)}"
            yield f"{indent}\t}}"
    while open_joints:
        open_joints.pop()
        yield "\t" * len(open_joints) + "}"


def _place(place: Float[ndarray, "3"]) -> str:
    return " ".join(f"{CM_PER_M * value:.6f}" for value in place)
