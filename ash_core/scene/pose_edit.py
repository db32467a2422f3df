"""Pose edits over a motion, their mirror image, and single poses as text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.io import bad, show
from ash_core.geometry.framing import SIDE_NAMES
from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.motion import live_window, pose_window, poses_until
from ash_core.records import Motion, PoseWindow, Skeleton
from ash_core.scene.joint_tree import JointNode, node_of
from ash_core.variants import HistoryOffsets

LARGEST: Final = 3e38
"""Numbers beyond it are not finite in float32."""
POSE_FORMAT: Final = "ash-studio pose"

_BODY_M: Final = 0.1
_AT_ONCE: Final = 64
"""Dofs that are looked at together: bounds the memory of a large skeleton."""


# ---- left and right ----


class Mirror(NamedTuple):
    """Map of a pose to its mirror image: dof i goes to `partners[i]`, times `signs[i]`."""

    partners: tuple[int, ...]
    signs: tuple[float, ...]


def mirror_of(skeleton: Skeleton) -> Mirror:
    """Compute the reflection x -> -x of the body frame, in dofs.

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
        own, partner = torch.einsum("jk,pknc->pjnc", upstream, moves)
        image = _about_joints(skeleton, own) * reflection
        fit = (image * _about_joints(skeleton, partner)[other_joints]).sum((0, 2))
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
    """Twist of each joint's unit value in the pose of zeros: velocity at the body's
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
    """Changes to a motion's poses. Raises: InputError for values that cannot be."""

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
        """Tell whether every pose stays as the motion has it."""
        return not self.values or self.blend == 0.0

    def with_dof(self, dof: int, value: float) -> "PoseEdit":
        """Hold one more dof at a value, m or rad."""
        return replace(self, values={**self.values, dof: value})

    def showing(self, dof: int, value: float, moving: float) -> "PoseEdit":
        """Hold one more dof, so that `value` is what is seen where the motion has `moving`.

        An edit that is blended out altogether is blended in, for there is no such value.
        """
        if self.blend <= 0:
            return replace(self, blend=1.0).with_dof(dof, value)
        return self.with_dof(dof, (value - (1 - self.blend) * moving) / self.blend)

    def without_dof(self, dof: int) -> "PoseEdit":
        """Leave one dof to the motion again."""
        return self._keeping([other for other in self.values if other != dof])

    def without_joint(self, node: JointNode) -> "PoseEdit":
        """Leave the dofs of one line of the tree to the motion again."""
        return self._keeping([other for other in self.values if other not in node.dofs])

    def mirrored(self, skeleton: Skeleton) -> "PoseEdit":
        """Swap left and right (see `mirror_of`)."""
        self.check(skeleton)
        partners, signs = mirror_of(skeleton)
        values = {partners[dof]: signs[dof] * value for dof, value in self.values.items()}
        return replace(self, values=values)

    def clamped(self, skeleton: Skeleton) -> "PoseEdit":
        """Clamp every value to the skeleton's limits, where it has some."""
        self.check(skeleton)
        limits = skeleton.dof_limits.tolist()
        values = {
            dof: min(max(value, limits[dof][0]), limits[dof][1])
            for dof, value in self.values.items()
        }
        return replace(self, values=values)

    def apply(self, dofs: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
        """Edit poses; the argument stays as it is."""
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
        """Convert to plain JSON, the inverse of `from_json`."""
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
    """Pose window of an edited motion at a frame.

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
    """List an edited motion's poses up to a frame, the newest last, for `live_window`."""
    return edit.apply(poses_until(motion, frame, skeleton, offsets))


# ---- poses by name ----


def dofs_by_name(
    values: Mapping[str, float | Mapping[str, float]],
    tree: Sequence[JointNode],
    skeleton: Skeleton,
) -> dict[int, float]:
    """Find the dofs of values by name: of a dof, or of the dofs of one line of the tree.

    Returns: dof to value, m or rad. Raises: InputError for an unknown name.
    """
    numbers = {dof: number for number, dof in enumerate(skeleton.dof_names)}
    held: dict[int, float] = {}
    for name, value in values.items():
        if not isinstance(value, Mapping):
            place, named, names = "pose", {name: value}, skeleton.dof_names
        elif (node := node_of(tree, name)) is not None:
            place, named, names = f"pose: {name}", value, node.dof_names
        else:
            raise _unknown("pose: expected a joint", [node.name for node in tree], name)
        for dof, number in named.items():
            if dof not in names:
                raise _unknown(f"{place}: expected a dof", names, dof)
            held[numbers[dof]] = float(number)
    return held


def _unknown(text: str, names: Sequence[str], name: str) -> InputError:
    """Make the error of an unknown name; it lists the names near it."""
    near = get_close_matches(name, names, 3, 0.5) or names
    return InputError(f"{text} such as {_some(list(near))}, got {show(name)}")


# ---- single poses as text ----


def pose_to_text(dofs: Float[Tensor, "D"], skeleton: Skeleton) -> str:
    """Write a pose for the clipboard: JSON with a number (m or rad) for each dof's name."""
    named = dict(zip(skeleton.dof_names, dofs.tolist(), strict=True))
    return json.dumps({"format": POSE_FORMAT, "dofs": named}, indent=1)


def pose_from_text(text: str, skeleton: Skeleton) -> Float[Tensor, "D"]:
    """Read the pose of `pose_to_text`, float64. Raises: InputError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"expected a copied pose, got {show(text.strip())}") from error
    dofs = content.get("dofs") if isinstance(content, dict) else None
    if not isinstance(dofs, dict) or content.get("format") != POSE_FORMAT:
        raise _bad(f"expected a copied pose, got {show(text.strip())}")
    expected = skeleton.dof_names
    if missing := [name for name in expected if name not in dofs]:
        raise _bad(f"expected the {len(expected)} dofs of this skeleton, missing: {_some(missing)}")
    expected_names = set(expected)
    if unknown := [name for name in dofs if name not in expected_names]:
        raise _bad(f"expected the {len(expected)} dofs of this skeleton, unknown: {_some(unknown)}")
    for name in expected:
        if not _is_number(dofs[name]):
            raise _bad(f"{name}: expected a finite number, got {show(str(dofs[name]))}")
    return torch.tensor([float(dofs[name]) for name in expected], dtype=torch.float64)


def _bad(text: str) -> InputError:
    return bad("pose", None, text)


def _some(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(map(show, names[:count])) + more


def _is_number(value: object) -> bool:
    """A finite number, in float32 too; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
