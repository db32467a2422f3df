"""Goals for a retargeted motion's hips and feet, and its contact with the floor."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d

from ash_core.files.io import bad
from ash_core.geometry.kinematics import joint_transforms, posed_in_parts
from ash_core.importers.retarget.figures import MIN_LEG, Source, Target, pair_of
from ash_core.importers.retarget.joint_names import SIDES
from ash_core.importers.retarget.pose_solver import Place, Turn
from ash_core.importers.retarget.slow_turns import runs
from ash_core.records import AvatarData

SOLE_M = 0.02
"""Depth of the sole under the lowest foot joint, without a mesh."""
ANKLE_WEIGHT, TOE_WEIGHT = (4.0, 25.0), (0.0, 25.0)
"""Weights of a joint in the air and of one on the floor, rad per m."""
SLOW_M_PER_S, LOW_M = 0.25, 0.05
"""Speed, and height over its lowest within `AROUND_S`, of a joint that stands on the floor."""
AROUND_S, SHORTEST_S, BLEND_S = 0.5, 0.08, 0.06
DRIFT_M = 0.015
"""Drift up to which a standing joint keeps one place; a farther one goes on sliding."""
REACH = 0.9995
"""Share of the leg that is stretched at most when it stands."""
MOST_LOWERED_M = 0.15
_LEGS = [f"{side} {part}" for side in SIDES for part in ("thigh", "shin", "foot")]
GIVE_M = 0.03
"""Depth to which other parts than feet may sink into the floor: flesh gives."""


def legs_on_the_ground(
    source: Source, target: Target, goals: dict[str, Turn]
) -> tuple[list[Place], list[Place]]:
    """Compute the goals of both hips, and of ankles and toes.

    Hips follow the source's, scaled by the legs' length. Ankles and toes follow from the goal
    turns of the legs, but keep one place while the source's stand on the floor. The hips come
    down as far as a standing leg needs.
    """
    # Joints, lengths of the legs, and the scale between both bodies.
    mapping = source.mapping
    source_joints = {part: source.index[pair_of(mapping, part).source] for part in _LEGS}
    target_places = {part: target.place(pair_of(mapping, part)) for part in _LEGS}
    lengths = {side: _leg_length(target_places, side) for side in SIDES}
    target_leg = np.mean(list(lengths.values()))
    source_leg = np.mean([source.leg_length(side) for side in SIDES])
    if not source_leg > MIN_LEG or not target_leg > MIN_LEG:
        raise bad(source.path, None, "expected legs with a length, got none")
    scale = float(target_leg / source_leg)
    # Goal turns of pelvis and legs, and the middle between the hips.
    turns = {part: goals[pair_of(mapping, part).bone].R_body_joint.numpy() for part in _LEGS}
    pelvis = goals[pair_of(mapping, "pelvis").bone].R_body_joint.numpy()
    source_middle = scale * np.mean(
        [source.places[:, source_joints[f"{s} thigh"]] for s in SIDES], axis=0
    )
    target_middle = np.mean([target_places[f"{side} thigh"] for side in SIDES], axis=0)
    # Goals of each side.
    hips, feet, drops = [], [], []
    for side in SIDES:
        thigh, shin, foot = (f"{side} {part}" for part in ("thigh", "shin", "foot"))
        hip = source_middle + pelvis @ (target_places[thigh] - target_middle)
        hips.append((target.first[pair_of(mapping, thigh).bone], hip))
        # Feet: planted where they stand.
        ankle = hip + turns[thigh] @ (target_places[shin] - target_places[thigh])
        ankle = ankle + turns[shin] @ (target_places[foot] - target_places[shin])
        guide = scale * source.places[:, source_joints[foot]]
        stands = _contacts(guide, source.fps)
        planted, share = _plant(ankle, guide, stands, source.fps)
        feet.append(_goal(target.first[pair_of(mapping, foot).bone], planted, ANKLE_WEIGHT, share))
        toe = mapping.of(f"{side} toe")
        if toe is not None:
            # Heels lift about toes: these stay where the flat foot had put them.
            tip = planted + turns[foot] @ (target.place(toe) - target_places[foot])
            guide = scale * source.places[:, source.index[toe.source]]
            tip, share = _plant(tip, guide, _contacts(guide, source.fps), source.fps, stands)
            feet.append(_goal(target.first[toe.bone], tip, TOE_WEIGHT, share))
        # Hips: lowered where a standing foot is out of reach.
        offset = hip - planted
        horizontal = (offset[:, [0, 2]] ** 2).sum(1)
        highest = np.sqrt(np.maximum((REACH * lengths[side]) ** 2 - horizontal, 0.0))
        drop = np.clip(offset[:, 1] - highest, 0.0, MOST_LOWERED_M)
        drops.append(np.where(stands & (offset[:, 1] > 0), drop, 0.0))
    # Lower both hips alike, smoothly.
    lowered = _smooth_above(np.max(drops, axis=0), source.fps)
    down = lowered[:, None] * np.array([0.0, 1.0, 0.0])
    return [_goal(joint, hip - down, (1.0, 1.0), lowered) for joint, hip in hips], feet


def _goal(joint: int, place: np.ndarray, weights: tuple[float, float], share: np.ndarray) -> Place:
    low, high = weights
    return Place(joint, torch.from_numpy(place), torch.from_numpy(low + (high - low) * share))


def _leg_length(places: dict[str, np.ndarray], side: str) -> float:
    hip, knee, foot = (places[f"{side} {part}"] for part in ("thigh", "shin", "foot"))
    return float(np.linalg.norm(knee - hip) + np.linalg.norm(foot - knee))


def _contacts(places: np.ndarray, fps: float) -> np.ndarray:
    """Mark the frames [F] in which a joint [F, 3] m stands: slow, and low for its surroundings."""
    if len(places) < 2:
        return np.ones(len(places), bool)
    speed = np.linalg.norm(np.gradient(places, axis=0), axis=-1) * fps
    around = 2 * max(round(AROUND_S * fps), 1) + 1
    height = places[:, 1] - minimum_filter1d(places[:, 1], around, mode="nearest")
    stands = (speed < SLOW_M_PER_S) & (height < LOW_M)
    parts, count = runs(stands)
    for n in range(count):
        if (parts == n).sum() < SHORTEST_S * fps:
            stands[parts == n] = False
    return stands


def _plant(
    places: np.ndarray,
    guide: np.ndarray,
    stands: np.ndarray,
    fps: float,
    flat: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Plant places [F, 3] while their guide stands. Returns them and the share [F] of planting.

    guide: source's joint [F, 3] m. flat: frames that alone decide the planted place, if any.
    """
    planted = places.copy()
    parts, count = runs(stands)
    for n in range(count):
        stretch = parts == n
        counted = stretch & flat if flat is not None and (stretch & flat).any() else stretch
        planted[stretch] = places[counted].mean(0)
        drift = guide[stretch] - guide[stretch].mean(0)
        if np.linalg.norm(drift, axis=1).max() > DRIFT_M:
            planted[stretch] += drift
    sigma = max(BLEND_S * fps, 0.3)
    wide = maximum_filter1d(stands.astype(float), 2 * round(2 * sigma) + 1, mode="nearest")
    share = np.where(stands, 1.0, gaussian_filter1d(wide, sigma, mode="nearest"))
    # The shift of a stand fades out before and after it.
    shift = (planted - places)[_nearest_stand(stands)] if count else np.zeros_like(places)
    return places + share[:, None] * shift, share


def _nearest_stand(stands: np.ndarray) -> np.ndarray:
    """Find, for each frame [F], the nearest one in which a joint stands."""
    frames = np.flatnonzero(stands)
    after = np.clip(np.searchsorted(frames, np.arange(len(stands))), 0, len(frames) - 1)
    before = np.maximum(after - 1, 0)
    now = np.arange(len(stands))
    nearer = np.abs(frames[before] - now) < np.abs(frames[after] - now)
    return np.where(nearer, frames[before], frames[after])


def _smooth_above(values: np.ndarray, fps: float) -> np.ndarray:
    """Smooth values [F] without going below any of them."""
    sigma = max(0.08 * fps, 0.5)
    wide = maximum_filter1d(values, 2 * round(2 * sigma) + 1, mode="nearest")
    return np.maximum(gaussian_filter1d(wide, sigma, mode="nearest"), values)


# ---- the floor ----


def put_on_the_floor(dofs: torch.Tensor, target: Target, avatar: AvatarData | None) -> torch.Tensor:
    """Shift the whole motion onto y = 0; then lift, smoothly, the frames that still sink.

    The floor is under whatever is lowest: feet mostly, hands of a handstand, a back that lies.
    """
    feet, others = _lowest_points(dofs, target, avatar)
    floor = np.percentile(np.minimum(feet, others), 5)
    sinks = np.maximum(np.maximum(floor - feet, floor - others - GIVE_M), 0.0)
    wide = maximum_filter1d(sinks, 9, mode="nearest")
    lift = np.maximum(gaussian_filter1d(wide, 2.0, mode="nearest"), sinks) - floor
    skeleton = target.skeleton
    joint = int(skeleton.dof_matrix[:, 1].abs().argmax())
    rise = skeleton.axes[joint, 1].double() * skeleton.dof_matrix[joint, 1].double()
    dofs = dofs.clone()
    dofs[:, 1] += torch.from_numpy(lift) / rise
    return dofs


def _lowest_points(
    dofs: torch.Tensor, target: Target, avatar: AvatarData | None
) -> tuple[np.ndarray, np.ndarray]:
    """Measure heights [F] over y = 0 of the soles, and of the lowest other part of the body.

    Thighs are left out: skirts hang from them.
    """
    feet, others = np.full(len(dofs), np.inf), np.full(len(dofs), np.inf)
    pairs = [p for p in target.mapping.pairs if not p.part.endswith("thigh")]
    posed = posed_in_parts(target.skeleton, dofs, [target.joint(pair) for pair in pairs]).numpy()
    for n, pair in enumerate(pairs):
        is_foot = pair.part.rpartition(" ")[2] in ("foot", "toe")
        points = _skin_points(target, avatar, pair.bone, target.joint(pair), is_foot)
        T = posed[:, n]
        low = (T[:, None, 1, :3] * points).sum(-1).min(1) + T[:, 1, 3]
        if is_foot:
            feet = np.minimum(feet, low)
        else:
            others = np.minimum(others, low)
    return feet, others


def _skin_points(
    target: Target, avatar: AvatarData | None, bone: str, joint: int, is_foot: bool
) -> np.ndarray:
    """Select the outermost points [n, 3] of a bone's skin, in the joint's frame."""
    if avatar is not None and bone in avatar.skinning.bone_names:
        skin = avatar.skinning
        index = skin.bone_names.index(bone)
        share = torch.where(skin.bones == index, skin.weights, 0.0).sum(1)
        bound = avatar.template.vertices[share > 0.5].double()
        if len(bound):
            rest = joint_transforms(avatar.skeleton, avatar.rest_dofs.double())[joint]
            local = ((bound - rest[:3, 3]) @ rest[:3, :3]).numpy()
            return local[np.unique((local @ _around().T).argmax(0))]
    if not is_foot:
        return np.zeros((1, 3))
    drop = target.rest[joint, 1] - target.lowest_foot() + SOLE_M
    return np.array([[0.0, -drop, 0.0]])


def _around() -> np.ndarray:
    """Spread directions [n, 3] over the sphere by a golden spiral."""
    n = np.arange(256) + 0.5
    height, turn = 1.0 - n / 128.0, n * np.pi * (1.0 + 5.0**0.5)
    width = np.sqrt(1.0 - height**2)
    return np.stack([width * np.cos(turn), height, width * np.sin(turn)], 1)
