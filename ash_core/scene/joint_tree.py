"""Joints that can be posed as lines of a tree, and the slider of each dof."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.records import Skeleton

REACH_RAD: Final = math.pi
"""Reach of a slider where the skeleton sets no limit: half a turn; a slide by `REACH_M`."""
REACH_M: Final = 2.0

_SAME_PLACE_M: Final = 1e-6


# ---- the tree of joints ----


@dataclass(frozen=True)
class JointNode:
    """One line of the tree: the joints of one name at one place, such as `LeftArm_rx`, `_ry`."""

    name: str
    """Common part of the joints' names before the last `_`; never that of another node."""
    joints: tuple[int, ...]
    joint_names: tuple[str, ...]
    dofs: tuple[int, ...]
    """Dofs that move these joints more than any other."""
    dof_names: tuple[str, ...]
    parent: str | None
    children: tuple[str, ...]
    depth: int


def joint_tree(skeleton: Skeleton) -> tuple[JointNode, ...]:
    """List all nodes, depth first: a parent stands right before its first child.

    A joint is on its parent's line if both share a name and a place. Every dof is on one line; one
    that moves no joint is on none.
    """
    groups = _groups(skeleton)
    names = _group_names(skeleton, groups)
    group_of = {joint: number for number, group in enumerate(groups) for joint in group}
    strongest = skeleton.dof_matrix.abs().max(0)
    dofs: list[list[int]] = [[] for _ in groups]
    for dof, (weight, joint) in enumerate(zip(*map(torch.Tensor.tolist, strongest), strict=True)):
        if weight > 0:
            dofs[group_of[joint]].append(dof)
    parents: list[int] = skeleton.parents.tolist()
    above = [group_of.get(parents[group[0]]) for group in groups]
    children: list[list[int]] = [[] for _ in groups]
    for number, parent in enumerate(above):
        if parent is not None:
            children[parent].append(number)
    nodes: list[JointNode] = []
    waiting = [(n, 0) for n, parent in reversed(list(enumerate(above))) if parent is None]
    while waiting:
        number, depth = waiting.pop()
        parent = above[number]
        nodes.append(
            JointNode(
                name=names[number],
                joints=tuple(groups[number]),
                joint_names=tuple(skeleton.joint_names[joint] for joint in groups[number]),
                dofs=tuple(dofs[number]),
                dof_names=tuple(skeleton.dof_names[dof] for dof in dofs[number]),
                parent=None if parent is None else names[parent],
                children=tuple(names[child] for child in children[number]),
                depth=depth,
            )
        )
        waiting += [(child, depth + 1) for child in reversed(children[number])]
    return tuple(nodes)


@dataclass(frozen=True)
class Match:
    """A line of the tree that a search has found."""

    node: JointNode
    dofs: tuple[int, ...]
    """All of the line's if its name fits, else those that fit themselves."""


def search(tree: Sequence[JointNode], text: str) -> tuple[Match, ...]:
    """Find the lines, in the tree's order, whose own name or dofs' names hold every word."""
    words = text.lower().split()

    def fits(name: str) -> bool:
        return all(word in name.lower() for word in words)

    matches = []
    for node in tree:
        named = zip(node.dofs, node.dof_names, strict=True)
        dofs = node.dofs if fits(node.name) else tuple(dof for dof, name in named if fits(name))
        if dofs or fits(node.name):
            matches.append(Match(node, dofs))
    return tuple(matches)


def way_to(tree: Sequence[JointNode], name: str) -> tuple[str, ...]:
    """Name the lines from the top of the tree down to one, itself included."""
    by_name = {node.name: node for node in tree}
    way: list[str] = []
    node = node_of(tree, name)
    while node is not None:
        way.append(node.name)
        node = by_name.get(node.parent or "")
    return tuple(reversed(way))


def node_of(tree: Sequence[JointNode], name: str) -> JointNode | None:
    """Find the node of this name, or the one on whose line the joint of this name stands."""
    matches = (node for node in tree if name == node.name or name in node.joint_names)
    return next(matches, None)


def _stem(name: str) -> str:
    return name.rpartition("_")[0] or name


def _groups(skeleton: Skeleton) -> list[list[int]]:
    """Joints of each line, in the skeleton's order."""
    parents: list[int] = skeleton.parents.tolist()
    away: list[float] = skeleton.offsets.norm(dim=-1).tolist()
    stems = [_stem(name) for name in skeleton.joint_names]
    groups: list[list[int]] = []
    group_of: list[int] = []
    for joint, parent in enumerate(parents):
        # The place counts: `left_hip` and `left_knee` share a name too.
        if parent >= 0 and away[joint] <= _SAME_PLACE_M and stems[joint] == stems[parent]:
            group_of.append(group_of[parent])
            groups[group_of[joint]].append(joint)
        else:
            group_of.append(len(groups))
            groups.append([joint])
    return groups


def _group_names(skeleton: Skeleton, groups: list[list[int]]) -> list[str]:
    """Name each group by what its joints share, or by its first joint where that is taken."""
    stems = [_stem(skeleton.joint_names[group[0]]) for group in groups]
    count = Counter(stems)
    whole = {name: joint for joint, name in enumerate(skeleton.joint_names)}
    return [
        stem
        if count[stem] == 1 and (stem not in whole or whole[stem] in group)
        else skeleton.joint_names[group[0]]
        for stem, group in zip(stems, groups, strict=True)
    ]


# ---- sliders ----


@dataclass(frozen=True)
class Slider:
    """Slider of one dof. Values in `unit`."""

    dof: int
    name: str
    unit: Literal["m", "rad", ""]
    """None of a dof that is neither a length nor an angle, such as global_scale."""
    lower: float
    upper: float
    rest: float
    turns: bool = False
    """True if it goes round without an end: all turns of a value stand at one place."""

    def place(self, value: float) -> float:
        """Place the slider for a value."""
        return math.remainder(value, math.tau) if self.turns else value

    def moved(self, value: float, place: float) -> float:
        """Return the value once its slider is moved to a place: by no whole turns."""
        return value + (place - self.place(value)) if self.turns else place

    @property
    def shown_unit(self) -> str:
        return "deg" if self.unit == "rad" else self.unit

    @property
    def shown_scale(self) -> float:
        """Factor from a value to the number that is shown."""
        return math.degrees(1.0) if self.unit == "rad" else 1.0

    def shown(self, digits: str) -> str:
        """Format a value with its unit; `digits` makes the number."""
        return f"{digits} {self.shown_unit}".rstrip()


def sliders(skeleton: Skeleton, rest: Float[Tensor, "D"]) -> tuple[Slider, ...]:
    """Make one slider a dof, with finite limits.

    Where the skeleton has none: 2 m to both sides of the rest pose; half a turn to both sides, and
    round and round if there is neither limit, as of a root, which motions turn for ever.

    A dof is a length where it moves the joint that it moves most by itself, metre for metre. One
    that moves it by another factor, or moves nothing, counts something else.
    """
    most, owners = skeleton.dof_matrix.abs().max(0)
    slides: list[bool] = (skeleton.is_prismatic[owners] | (most == 0)).tolist()
    is_length: list[bool] = torch.isclose(most, torch.ones(())).tolist()
    result: list[Slider] = []
    for dof, (low, high) in enumerate(skeleton.dof_limits.tolist()):
        name, value = skeleton.dof_names[dof], float(rest[dof])
        centre, reach = (value, REACH_M) if slides[dof] else (0.0, REACH_RAD)
        lower = low if math.isfinite(low) else min(centre - reach, high)
        upper = high if math.isfinite(high) else max(centre + reach, low)
        turns = not slides[dof] and math.isinf(low) and math.isinf(high)
        unit = "rad" if not slides[dof] else "m" if is_length[dof] else ""
        result.append(Slider(dof, name, unit, lower, upper, value, turns))
    return tuple(result)
