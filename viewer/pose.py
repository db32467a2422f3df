"""Posing by hand: a tree of joints, sliders for dofs, edits over a motion, the poses just shown."""

import json
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ash_core.conventions import FPS
from ash_core.errors import InputError
from ash_core.files.io import bad, show
from ash_core.geometry.framing import SIDE_NAMES
from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.motion import live_poses, live_window, pose_window, poses_until
from ash_core.records import Motion, PoseWindow, Skeleton
from ash_core.variants import HistoryOffsets

REACH_RAD: Final = math.pi
"""How far a slider goes where the skeleton sets no limit: a turn, and a slide."""
REACH_M: Final = 2.0
LARGEST: Final = 3e38
"""Numbers beyond it are not finite in float32."""
POSE_FORMAT: Final = "ash-studio pose"

_SAME_PLACE_M: Final = 1e-6
_BODY_M: Final = 0.1
_AT_ONCE: Final = 64
"""Dofs that are looked at together: bounds the memory of a large skeleton."""


# ---- the tree of joints ----


@dataclass(frozen=True)
class JointNode:
    """One line of the tree: the joints of one name at one place, such as `LeftArm_rx`, `_ry`."""

    name: str
    """What the joints' names share before the last `_`; never that of another node."""
    joints: tuple[int, ...]
    joint_names: tuple[str, ...]
    dofs: tuple[int, ...]
    """Those that move these joints more than any other."""
    dof_names: tuple[str, ...]
    parent: str | None
    children: tuple[str, ...]
    depth: int


def joint_tree(skeleton: Skeleton) -> tuple[JointNode, ...]:
    """All nodes, depth first: a parent stands right before its first child.

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
    """The node of this name, or the one on whose line the joint of this name stands."""
    found = (node for node in tree if name == node.name or name in node.joint_names)
    return next(found, None)


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
    """What each group shares; its first joint's whole name where that is not its alone."""
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
    """What a slider of one dof needs to know. Values in `unit`."""

    dof: int
    name: str
    unit: Literal["m", "rad", ""]
    """None of a dof that is neither a length nor an angle, such as global_scale."""
    lower: float
    upper: float
    rest: float
    turns: bool = False
    """Whether it goes round without an end: all turns of a value stand at one place."""

    def place(self, value: float) -> float:
        """Where the slider stands."""
        return math.remainder(value, math.tau) if self.turns else value

    def moved(self, value: float, place: float) -> float:
        """The value once the slider of this value is moved to a place: by no whole turns."""
        return value + (place - self.place(value)) if self.turns else place

    @property
    def shown_unit(self) -> str:
        return "deg" if self.unit == "rad" else self.unit

    @property
    def shown_scale(self) -> float:
        """Times a value: what is shown."""
        return math.degrees(1.0) if self.unit == "rad" else 1.0

    def shown(self, digits: str) -> str:
        """A value with its unit, as a format: `digits` makes the number."""
        return f"{digits} {self.shown_unit}".rstrip()


def sliders(skeleton: Skeleton, rest: Float[Tensor, "D"]) -> tuple[Slider, ...]:
    """One slider a dof, with finite limits.

    Where the skeleton has none: 2 m to both sides of the rest pose; half a turn to both sides, and
    round and round if there is neither limit, as of a root, which motions turn for ever.

    A dof is a length where it moves the joint that it moves most by itself, metre for metre. One
    that moves it by another factor, or moves nothing, counts something else.
    """
    most, owners = skeleton.dof_matrix.abs().max(0)
    slides: list[bool] = (skeleton.is_prismatic[owners] | (most == 0)).tolist()
    is_length: list[bool] = torch.isclose(most, torch.ones(())).tolist()
    made: list[Slider] = []
    for dof, (low, high) in enumerate(skeleton.dof_limits.tolist()):
        name, at = skeleton.dof_names[dof], float(rest[dof])
        centre, reach = (at, REACH_M) if slides[dof] else (0.0, REACH_RAD)
        lower = low if math.isfinite(low) else min(centre - reach, high)
        upper = high if math.isfinite(high) else max(centre + reach, low)
        turns = not slides[dof] and math.isinf(low) and math.isinf(high)
        unit = "rad" if not slides[dof] else "m" if is_length[dof] else ""
        made.append(Slider(dof, name, unit, lower, upper, at, turns))
    return tuple(made)


# ---- left and right ----


class Mirror(NamedTuple):
    """How a pose becomes its mirror image: dof i goes to `partners[i]`, times `signs[i]`."""

    partners: tuple[int, ...]
    signs: tuple[float, ...]


def mirror_of(skeleton: Skeleton) -> Mirror:
    """The reflection x -> -x of the body frame, in dofs.

    Partners are told by their names (framing.SIDE_NAMES); a dof without one is its own. The sign is
    the skeleton's own: where a dof moves the joints a little, from the pose of zeros, the same move
    of its partner times the sign moves the mirrored joints by the mirror image, or as near as can
    be. A joint is a body of 0.1 m here, not a point: a turn about a bone, and one of the last joint
    of a chain, moves no point. A dof that moves nothing keeps its sign.
    """
    partners = _partners(skeleton.dof_names)
    other_joints = _partners(skeleton.joint_names)
    upstream, twists = _upstream(skeleton.parents), _twists(skeleton)
    reflection = torch.tensor([-1.0, 1.0, 1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    pairs = [(dof, other) for dof, other in enumerate(partners) if dof <= other]
    signs = [1.0] * len(partners)
    for start in range(0, len(pairs), _AT_ONCE):
        some = torch.tensor(pairs[start : start + _AT_ONCE])
        moves = torch.einsum("knp,kc->pknc", skeleton.dof_matrix.double()[:, some], twists)
        here, there = torch.einsum("jk,pknc->pjnc", upstream, moves)
        image = _about_joints(skeleton, here) * reflection
        fit = (image * _about_joints(skeleton, there)[other_joints]).sum((0, 2))
        for (dof, other), value in zip(some.tolist(), fit.tolist(), strict=True):
            signs[dof] = signs[other] = 1.0 if value >= 0 else -1.0
    return Mirror(tuple(partners), tuple(signs))


def _partners(names: Sequence[str]) -> list[int]:
    """Index of each name's other side; its own index where there is none."""
    index = {name: number for number, name in enumerate(names)}
    partners = list(range(len(names)))
    for number, name in enumerate(names):
        for left, right in SIDE_NAMES:
            other = index.get(name.replace(left, right), number)
            if other != number and (partners[number], partners[other]) == (number, other):
                partners[number], partners[other] = other, number
    return partners


def _upstream(parents: Int[Tensor, "J"]) -> Float[Tensor, "J J"]:
    """1 where the second joint is the first one itself, or above it."""
    upstream = torch.eye(len(parents), dtype=torch.float64)
    for joint, parent in enumerate(parents.tolist()):
        if parent >= 0:
            upstream[joint] += upstream[parent]
    return upstream


def _twists(skeleton: Skeleton) -> Float[Tensor, "J 6"]:
    """What each joint's unit value moves below it, in the pose of zeros: velocity at the body's
    origin, then angular velocity. All joints' frames are the body's there.
    """
    axes, slides = skeleton.axes.double(), skeleton.is_prismatic[:, None]
    turns = torch.where(slides, 0.0, axes)
    velocity = torch.where(slides, axes, _origins(skeleton).cross(turns, dim=-1))
    return torch.cat((velocity, turns), -1)


def _about_joints(skeleton: Skeleton, twists: Float[Tensor, "J n 6"]) -> Float[Tensor, "J n 6"]:
    """The same moves as velocities of the joints themselves, and of what is 0.1 m about them."""
    velocity, turns = twists.split(3, -1)
    origins = _origins(skeleton)[:, None].expand_as(turns)
    return torch.cat((velocity + turns.cross(origins, dim=-1), _BODY_M * turns), -1)


def _origins(skeleton: Skeleton) -> Float[Tensor, "J 3"]:
    """Joints in the pose of zeros, m, body frame."""
    zeros = torch.zeros(len(skeleton.dof_names), dtype=torch.float64)
    return joint_transforms(skeleton, zeros)[:, :3, 3]


# ---- edits ----


@dataclass(frozen=True)
class PoseEdit:
    """What a hand has changed of a motion's poses. Raises: InputError for values that cannot be."""

    values: Mapping[int, float] = field(default_factory=dict)
    """Dof to value (m or rad): it replaces the motion's."""
    blend: float = 1.0
    """0: the motion alone, 1: the edit alone; between them linear in every dof."""

    def __post_init__(self) -> None:
        for dof, value in self.values.items():
            if dof < 0 or not abs(value) < LARGEST:
                raise InputError(f"pose edit: expected a finite value of dof {dof}, got {value}")
        if not 0.0 <= self.blend <= 1.0:
            raise InputError(f"pose edit: blend: expected 0 to 1, got {self.blend}")
        ordered = {int(dof): float(value) for dof, value in sorted(self.values.items())}
        object.__setattr__(self, "values", ordered)

    def __hash__(self) -> int:
        return hash((tuple(self.values.items()), self.blend))

    @property
    def changes_nothing(self) -> bool:
        """Whether every pose stays as the motion has it."""
        return not self.values or self.blend == 0.0

    def with_dof(self, dof: int, value: float) -> "PoseEdit":
        """One more dof held at a value, m or rad."""
        return replace(self, values={**self.values, dof: value})

    def showing(self, dof: int, value: float, moving: float) -> "PoseEdit":
        """One more dof held, so that `value` is what is seen where the motion has `moving`.

        An edit that is blended out altogether is blended in, for there is no such value.
        """
        if self.blend <= 0:
            return replace(self, blend=1.0).with_dof(dof, value)
        return self.with_dof(dof, (value - (1 - self.blend) * moving) / self.blend)

    def without_dof(self, dof: int) -> "PoseEdit":
        """One dof left to the motion again."""
        return self._keeping([kept for kept in self.values if kept != dof])

    def without_joint(self, node: JointNode) -> "PoseEdit":
        """The dofs of one line of the tree left to the motion again."""
        return self._keeping([kept for kept in self.values if kept not in node.dofs])

    def mirrored(self, skeleton: Skeleton) -> "PoseEdit":
        """Left on the right, and right on the left (see `mirror_of`)."""
        self.check(skeleton)
        partners, signs = mirror_of(skeleton)
        values = {partners[dof]: signs[dof] * value for dof, value in self.values.items()}
        return replace(self, values=values)

    def clamped(self, skeleton: Skeleton) -> "PoseEdit":
        """Every value within the skeleton's limits, where it has some."""
        self.check(skeleton)
        limits = skeleton.dof_limits.tolist()
        values = {
            dof: min(max(value, limits[dof][0]), limits[dof][1])
            for dof, value in self.values.items()
        }
        return replace(self, values=values)

    def apply(self, dofs: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
        """The edited poses; what came in stays as it is."""
        edited = dofs.clone()
        if self.changes_nothing:
            return edited
        self._check(dofs.shape[-1])
        places = list(self.values)
        held = torch.tensor(list(self.values.values()), dtype=torch.float64).to(dofs)
        edited[..., places] = (1.0 - self.blend) * dofs[..., places] + self.blend * held
        return edited

    def check(self, skeleton: Skeleton) -> None:
        """Raise InputError for a dof that the skeleton does not have."""
        self._check(len(skeleton.dof_names))

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes: text keys, numbers."""
        return {
            "values": {str(dof): value for dof, value in self.values.items()},
            "blend": self.blend,
        }

    @classmethod
    def from_json(cls, content: object, skeleton: Skeleton | None = None) -> "PoseEdit":
        """Raises: InputError that names the field. skeleton: which dofs there may be."""
        if not isinstance(content, dict) or sorted(map(str, content)) != ["blend", "values"]:
            raise InputError("pose edit: expected the fields values and blend")
        values, blend = content["values"], content["blend"]
        if not isinstance(values, dict):
            raise InputError(f"pose edit: values: expected dofs, got {show(str(values))}")
        if not _is_number(blend):
            raise InputError(f"pose edit: blend: expected 0 to 1, got {show(str(blend))}")
        for dof, value in values.items():
            if not (isinstance(dof, str) and dof.isascii() and dof.isdigit() and len(dof) < 6):
                raise InputError(
                    f"pose edit: values: expected numbers of dofs, got {show(str(dof))}"
                )
            if not _is_number(value):
                place = f"pose edit: values: dof {dof}"
                raise InputError(f"{place}: expected a finite number, got {show(str(value))}")
        edit = cls({int(dof): float(value) for dof, value in values.items()}, float(blend))
        if skeleton is not None:
            edit.check(skeleton)
        return edit

    def _keeping(self, dofs: Sequence[int]) -> "PoseEdit":
        return replace(self, values={dof: self.values[dof] for dof in dofs})

    def _check(self, count: int) -> None:
        if self.values and (highest := max(self.values)) >= count:
            raise InputError(f"pose edit: values: expected dofs 0 to {count - 1}, got {highest}")


def window_of(
    motion: Motion, frame: int, edit: PoseEdit, skeleton: Skeleton, offsets: HistoryOffsets
) -> PoseWindow:
    """What the character sees of an edited motion at a frame.

    Without edits that of the motion; of a published avatar its first two frames and published
    windows included. With edits all is normalised here.
    """
    count = len(motion.dofs)
    if edit.changes_nothing or not 0 <= frame < count:  # which raises for the latter
        return pose_window(motion, frame, skeleton, offsets)
    return live_window(edited_until(motion, frame, edit, skeleton, offsets), skeleton, offsets)


def edited_until(
    motion: Motion, frame: int, edit: PoseEdit, skeleton: Skeleton, offsets: HistoryOffsets
) -> Float[Tensor, "P D"]:
    """An edited motion's poses up to a frame, the newest last: what `live_window` takes."""
    return edit.apply(poses_until(motion, frame, skeleton, offsets))


# ---- poses just shown ----


class PoseHistory:
    """The last poses that were shown, so that a drag looks like motion played.

    While a drag moves the character every frame's pose is pushed; between two pushes a pose is
    taken to have moved evenly.
    """

    def __init__(self, offsets: HistoryOffsets) -> None:
        """offsets: of the avatar; without a frame rate they count frames of `FPS`."""
        self.offsets, self.fps = offsets, offsets.fps or FPS
        self._shown: deque[tuple[float, Float[Tensor, "D"]]] = deque()

    @property
    def reach_s(self) -> float:
        """For so long a pose counts."""
        return live_poses(self.offsets) / self.fps

    def push(self, dofs: Float[Tensor, "D"], time_s: float) -> None:
        """A pose and when it was shown. An earlier time than the last begins anew; the same time
        replaces the last.
        """
        assert math.isfinite(time_s), time_s
        if self._shown and time_s < self._shown[-1][0]:
            self._shown.clear()
        if self._shown and time_s == self._shown[-1][0]:
            self._shown.pop()
        self._shown.append((time_s, dofs.detach().to("cpu", torch.float64, copy=True)))
        # One pose before the oldest sample stays: the samples lie between two.
        oldest = time_s - self.reach_s
        while len(self._shown) > 1 and self._shown[1][0] <= oldest:
            self._shown.popleft()

    def begin(self, dofs: Float[Tensor, "P D"], time_s: float) -> None:
        """As if these poses had been shown until now, oldest first, at the motions' rate."""
        self.reset(dofs[0])
        for back, pose in zip(reversed(range(len(dofs) - 1)), dofs[1:], strict=True):
            self.push(pose, time_s - back / self.fps)

    def reset(self, dofs: Float[Tensor, "D"]) -> None:
        """As if this pose had been shown for ever: nothing moves."""
        self._shown.clear()
        self._shown.append((-math.inf, dofs.detach().to("cpu", torch.float64, copy=True)))

    def poses(self, time_s: float | None = None) -> Float[Tensor, "P D"]:
        """The poses at the last frames' times, the newest last: what `live_window` takes.

        time_s: what now is; by default the last push. After the last push its pose stays, before
        the first that one stood.
        """
        assert self._shown, "no pose was pushed"
        now = self._shown[-1][0] if time_s is None else time_s
        back = reversed(range(live_poses(self.offsets)))
        return torch.stack([self._at(now - frames / self.fps) for frames in back])

    def _at(self, time_s: float) -> Float[Tensor, "D"]:
        later_s, later = self._shown[-1]
        if time_s >= later_s:
            return later
        for earlier_s, earlier in reversed(self._shown):
            if earlier_s <= time_s:
                if math.isinf(earlier_s):
                    return earlier
                share = (time_s - earlier_s) / (later_s - earlier_s)
                return earlier + share * (later - earlier)
            later_s, later = earlier_s, earlier
        return later


# ---- single poses as text ----


def pose_to_text(dofs: Float[Tensor, "D"], skeleton: Skeleton) -> str:
    """A pose for the clipboard: JSON with a number (m or rad) for each dof's name."""
    named = dict(zip(skeleton.dof_names, dofs.tolist(), strict=True))
    return json.dumps({"format": POSE_FORMAT, "dofs": named}, indent=1)


def pose_from_text(text: str, skeleton: Skeleton) -> Float[Tensor, "D"]:
    """The pose of `pose_to_text`, float64. Raises: InputError that names what is wrong in it."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"expected a copied pose, got {show(text.strip())}") from error
    dofs = content.get("dofs") if isinstance(content, dict) else None
    if not isinstance(dofs, dict) or content.get("format") != POSE_FORMAT:
        raise _bad(f"expected a copied pose, got {show(text.strip())}")
    wanted = skeleton.dof_names
    if missing := [name for name in wanted if name not in dofs]:
        raise _bad(f"expected the {len(wanted)} dofs of this skeleton, missing: {_some(missing)}")
    known = set(wanted)
    if unknown := [name for name in dofs if name not in known]:
        raise _bad(f"expected the {len(wanted)} dofs of this skeleton, unknown: {_some(unknown)}")
    for name in wanted:
        if not _is_number(dofs[name]):
            raise _bad(f"{name}: expected a finite number, got {show(str(dofs[name]))}")
    return torch.tensor([float(dofs[name]) for name in wanted], dtype=torch.float64)


def _bad(text: str) -> InputError:
    return bad("pose", None, text)


def _some(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(map(show, names[:count])) + more


def _is_number(value: object) -> bool:
    """A finite number, in float32 too; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
