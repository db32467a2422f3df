"""Source and target of a retargeting: the file's figure, and the avatar's skeleton at rest."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ash_core.files.bvh import Bvh
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.retarget.joint_mapping import Mapping, Pair, Tree, bone_tree
from ash_core.importers.retarget.joint_names import FINGERS, SIDES, group_name
from ash_core.importers.retarget.up_axis import UPRIGHT, uprightness
from ash_core.records import Skeleton

FLAT_TOE_DEGREES, FLAT_FOOT_DEGREES = (-25.0, 25.0), (-45.0, 5.0)
"""Pitch of toes, and of the bone from ankle to toes, of a foot that is flat on the floor."""
PLAIN_UPRIGHT = 0.9
"""Uprightness from which the arms decide."""
SAME_PITCH_DEGREES = 3.0
SLOW_LEGS_PER_S, LOW_LEGS = 0.3, 0.05
"""Speed and height over its lowest, in leg lengths, of a foot that stands."""
MIN_LEG = 1e-6
NEXT = {
    "clavicle": "upper_arm",
    "upper_arm": "forearm",
    "forearm": "hand",
    "hand": "middle1",
    "thigh": "shin",
    "shin": "foot",
    "foot": "toe",
} | {f"{finger}{n}": f"{finger}{n + 1}" for finger in FINGERS for n in (1, 2)}
"""Part at the far end of a part's bone."""


def bone_direction(pair: Pair, mapping: Mapping) -> Pair | None:
    """Find the pair at the far end of a pair's bone."""
    side, _, part = pair.part.rpartition(" ")
    following = NEXT.get(part)
    return mapping.of(f"{side} {following}") if side in SIDES and following else None


def pair_of(mapping: Mapping, part: str) -> Pair:
    """Return the pair of a part that every mapping has."""
    pair = mapping.of(part)
    assert pair is not None, part
    return pair


def unit(v: np.ndarray) -> np.ndarray:
    """Normalize vectors [..., 3]."""
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def pitch_degrees(directions: np.ndarray) -> np.ndarray:
    """Measure the angles of vectors [..., 3] over the horizontal, degrees."""
    return np.degrees(np.arcsin(np.clip(unit(directions)[..., 1], -1.0, 1.0)))


class Source:
    """The file's figure, Y up, with a pose to compare with."""

    rest_places: np.ndarray
    """[J, 3] of the compared pose."""
    rest_turns: np.ndarray
    """[J, 3, 3] of the compared pose; feet as they stand flat on the floor."""

    def __init__(
        self,
        clip: Bvh,
        tree: Tree,
        turns: np.ndarray,
        places: np.ndarray,
        mapping: Mapping,
        path: Path | str,
    ) -> None:
        R = np.eye(3) if mapping.up == "y" else np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
        self.fps, self.mapping, self.path = clip.fps, mapping, path
        self.index = {name: n for n, name in enumerate(tree.names)}
        self.turns, self.places = R @ turns @ R.T, places @ R.T
        self.tips = {n: R @ tip for n, tip in clip.tips.items()}
        self.notes: list[str] = []
        self.offsets = clip.offsets @ R.T
        self.rest_places = clip.rest() @ R.T
        self.rest_turns = np.tile(np.eye(3), (len(tree.names), 1, 1))
        stands = self._uprightness(self.rest_places[None])[0] >= UPRIGHT
        if not stands:
            frame = self._plainest_frame()
            self.rest_places, self.rest_turns = self.places[frame], self.turns[frame].copy()
            self.notes.append(
                "the file's zero pose is no standing figure: bones are compared at frame "
                f"{frame}, where it stands most upright with its arms straight"
            )
        for side in SIDES:
            self._level_foot(side, stands)

    def at(self, part: str) -> int | None:
        """Look up the joint of a part."""
        pair = self.mapping.of(part)
        return None if pair is None else self.index[pair.source]

    def places_at_rest(self, pair: Pair) -> np.ndarray:
        """Return the place [3] of a pair's joint in the compared pose."""
        return self.rest_places[self.index[pair.source]]

    def leg_length(self, side: str) -> float:
        """Sum the lengths of thigh and shin in the compared pose, in the file's units."""
        hip, knee, foot = (
            self.rest_places[self.index[pair_of(self.mapping, f"{side} {part}").source]]
            for part in ("thigh", "shin", "foot")
        )
        return float(np.linalg.norm(knee - hip) + np.linalg.norm(foot - knee))

    def _uprightness(self, places: np.ndarray) -> np.ndarray:
        """Return the smallest cosine [F] between the vertical and trunk, thighs and shins."""
        ends = [(f"{side} {low}", f"{side} {high}") for side in SIDES
                for low, high in (("shin", "thigh"), ("foot", "shin"))]  # fmt: skip
        top = next((p for p in ("head", "neck", "chest") if self.at(p) is not None), None)
        if top is not None:
            ends.append(("pelvis", top))
        bones = [(self.at(low), self.at(high)) for low, high in ends]
        assert all(joint is not None for bone in bones for joint in bone), ends
        return uprightness(places, [(a or 0, b or 0) for a, b in bones], 1)

    def _plainest_frame(self) -> int:
        """Find the frame most like a rest pose: upright, arms straight and not raised.

        The more a limb is bent there, the less its direction says of how it is twisted.
        """
        scores = np.minimum(self._uprightness(self.places), PLAIN_UPRIGHT)
        for side in SIDES:
            ends = [self.at(f"{side} {part}") for part in ("upper_arm", "forearm", "hand")]
            arm = [joint for joint in ends if joint is not None]
            if len(arm) == 3:
                upper, lower = (
                    unit(self.places[:, b] - self.places[:, a]) for a, b in pairwise(arm)
                )
                scores += ((upper * lower).sum(1) - np.maximum(upper[:, 1], 0.0)) / 2
        return int(scores.argmax())

    def _level_foot(self, side: str, stands: bool) -> None:
        """Turn a foot of the compared pose so that it is flat, as the avatar's is at rest.

        Toes along the floor mean a flat foot; without toes, so does a foot of usual steepness.
        Otherwise the frames in which the foot stands on the floor decide.
        """
        foot, toe = self.at(f"{side} foot"), self.at(f"{side} toe")
        assert foot is not None
        # The last bone that shows where the foot points, and how steep it is when the foot is flat.
        tip, bounds = foot, FLAT_FOOT_DEGREES
        if toe is not None and self._has_tip(foot, toe):
            tip, bounds = toe, FLAT_TOE_DEGREES
            local = self.tips[toe]
        elif toe is not None:
            local = self.offsets[toe]
        elif foot in self.tips:
            local = self.tips[foot]
        else:
            return
        # Steepness now: where the pose stands, a foot within usual bounds stays.
        pitch = float(pitch_degrees(self.rest_turns[foot if tip == foot else toe] @ local))
        if stands and bounds[0] <= pitch <= bounds[1]:
            return
        # Steepness of a flat foot: as where it stands in the frames, else level toes.
        flat = self._flat_frames(side, [foot] if toe is None else [foot, toe])
        if flat.any():
            pitches = pitch_degrees(self.turns[flat][:, tip] @ local)
            flat_pitch = float(np.median(pitches))
        elif stands and tip == toe:
            flat_pitch = 0.0
        else:
            return
        if abs(flat_pitch - pitch) < SAME_PITCH_DEGREES:
            return
        # Turn foot and toe about the axis across.
        forward = self.rest_turns[foot] @ local
        across = np.cross(forward, [0.0, 1.0, 0.0])
        if np.linalg.norm(across) < 0.05 * np.linalg.norm(forward):
            return
        lift = np.radians(flat_pitch - pitch) * unit(across)
        R = Rotation.from_rotvec(lift).as_matrix()
        for joint in (foot, toe):
            if joint is not None:
                self.rest_turns[joint] = R @ self.rest_turns[joint]
        self.notes.append(
            f"the {side} foot of the compared pose is turned by {flat_pitch - pitch:.0f} degrees, "
            "so that it is flat where it stands on the floor"
        )

    def _has_tip(self, foot: int, toe: int) -> bool:
        """Check that the file ends the toes somewhere in front of them."""
        tip = self.tips.get(toe, np.zeros(3))
        if np.linalg.norm(tip) < MIN_LEG:
            return False
        before = self.rest_turns[foot] @ self.offsets[toe]
        return float(unit(self.rest_turns[toe] @ tip) @ unit(before)) > -0.1

    def _flat_frames(self, side: str, joints: list[int]) -> np.ndarray:
        """Mark the frames [F] in which a foot stands on the floor under an upright leg."""
        if len(self.places) < 3:
            return np.zeros(len(self.places), bool)
        leg = self.leg_length(side)
        places = self.places[:, joints]
        speed = np.linalg.norm(np.gradient(places, axis=0), axis=-1).max(1) * self.fps / leg
        low = places[:, 0, 1] - np.percentile(places[:, 0, 1], 2)
        ends = [self.at(f"{side} {part}") for part in ("foot", "shin", "thigh")]
        bones = [(a or 0, b or 0) for a, b in pairwise(ends)]
        upright = uprightness(self.places, bones, 1) > UPRIGHT
        return (speed < SLOW_LEGS_PER_S) & (low < LOW_LEGS * leg) & upright

    def direction(self, pair: Pair) -> np.ndarray | None:
        """Return the direction [3] of a bone in the compared pose; None without a far end."""
        joint = self.index[pair.source]
        end = bone_direction(pair, self.mapping)
        if end is not None and pair.part.endswith("foot"):
            along = self.rest_turns[joint] @ self.offsets[self.index[end.source]]
        elif end is not None:
            along = self.rest_places[self.index[end.source]] - self.rest_places[joint]
        elif joint in self.tips:
            along = self.rest_turns[joint] @ self.tips[joint]
        else:
            return None
        length = float(np.linalg.norm(along))
        return along / length if length > MIN_LEG else None


class Target:
    """The avatar's skeleton at rest, by part."""

    def __init__(self, skeleton: Skeleton, mapping: Mapping) -> None:
        self.skeleton, self.mapping = skeleton, mapping
        zero = torch.zeros(len(skeleton.dof_names), dtype=torch.float64)
        self.rest = joint_transforms(skeleton, zero)[:, :3, 3].numpy()
        groups = [group_name(name) for name in skeleton.joint_names]
        self.first = {name: groups.index(name) for name in bone_tree(skeleton).names}
        self.last = {name: len(groups) - 1 - groups[::-1].index(name) for name in self.first}

    def place(self, pair: Pair) -> np.ndarray:
        return self.rest[self.first[pair.bone]]

    def lowest_foot(self) -> float:
        """Return the height of the lowest foot joint, m."""
        pairs = [self.mapping.of(f"{side} {part}") for side in SIDES for part in ("foot", "toe")]
        return min(float(self.place(pair)[1]) for pair in pairs if pair is not None)

    def joint(self, pair: Pair) -> int:
        """Find the joint that has all of the bone's turns, rolls towards the next bone included."""
        end = bone_direction(pair, self.mapping)
        last = self.last[pair.bone]
        if end is None:
            return last
        above = int(self.skeleton.parents[self.first[end.bone]])
        ancestor = above
        while ancestor >= 0 and ancestor != last:
            ancestor = int(self.skeleton.parents[ancestor])
        return above if ancestor == last else last

    def direction(self, pair: Pair) -> np.ndarray | None:
        """Return the direction [3] of a bone at rest; fingertips follow the bone before."""
        end = bone_direction(pair, self.mapping)
        side, _, part = pair.part.rpartition(" ")
        if end is None and part[:-1] in FINGERS and part[-1] in "23":
            before = self.mapping.of(f"{side} {part[:-1]}{int(part[-1]) - 1}")
            return None if before is None else self.direction(before)
        if end is None and part == "hand":
            before = self.mapping.of(f"{side} forearm")
            return None if before is None else self.direction(before)
        if end is None and part == "toe":
            foot = self.mapping.of(f"{side} foot")
            along = None if foot is None else self.direction(foot)
            flat = None if along is None else along * [1, 0, 1]
            return None if flat is None or np.linalg.norm(flat) < MIN_LEG else unit(flat)
        if end is None:
            return None
        along = self.place(end) - self.place(pair)
        length = float(np.linalg.norm(along))
        return along / length if length > MIN_LEG else None
