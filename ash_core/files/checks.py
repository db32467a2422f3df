"""Checks that every avatar must pass, whichever file it came from."""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from ash_core.conventions import ATLAS_RESOLUTIONS, MAX_SIDE_PX, OFFSET_MM_MAX
from ash_core.files.io import bad, show
from ash_core.files.skeletool import WEIGHT_TOLERANCE
from ash_core.geometry.motion import HEADING_DOF
from ash_core.networks import graph_net, unet
from ash_core.networks.decoder import Decoder, DecoderConfig
from ash_core.records import AvatarData, Camera, Cloth
from ash_core.variants import MAX_HISTORY_FPS, MAX_HISTORY_FRAMES, VARIANTS

Shapes = Mapping[str, tuple[int, ...]]

DECODER_ATLAS_STEP = 16
"""Divisor of a native decoder's atlas resolution: it is halved four times."""
UV_TOLERANCE = 1e-3
AXIS_TOLERANCE = 1e-3
CLOTH_CONSTANT_MAX, CLOTH_PASSES_MAX = 1e4, 16
"""Upper bounds on the simulation's frequencies, rates and factors; on its passes over the links."""
DECODER_WIDTH_MAX = 256
DECODER_CELLS_MAX = 1024 * 1024 * 64
"""Upper bound on atlas^2 * width: a small file must not take all memory. The presets use 1/5."""
DECODER_WIDTH_OF_MAPS = 16
"""Smallest width that counts: the maps around a narrower decoder take memory too."""


def network_shapes(n_vertices: int, n_nodes: int) -> dict[str, Shapes]:
    """Return names and shapes of a character's four published networks."""
    return {
        "spatial_gcn": graph_net.expected_shapes("spatial", n_nodes),
        "delta_gcn": graph_net.expected_shapes("delta", n_vertices),
        "unet_geometry": unet.expected_shapes("geometry"),
        "unet_appearance": unet.expected_shapes("appearance"),
    }


def check_state(path: Path | str, name: str, state: Mapping[str, Tensor], expected: Shapes) -> None:
    """Check that a network takes this state dictionary: names, shapes, types, finite numbers.

    Counters may be absent; unexpected ones are an error.
    """
    check_shapes(path, name, state, expected)
    for key, tensor in state.items():
        if key not in expected:
            raise bad(
                path,
                None,
                f"{name}: expected its {len(expected)} tensors; 1 extra: {_first([key])}",
            )
        dtype = torch.int64 if is_counter(key) else torch.float32
        if tensor.dtype != dtype:
            text = f"expected {key} to be {_type(dtype)}, got {_type(tensor.dtype)}"
            raise bad(path, None, f"{name}: {text}")
        if not is_finite(tensor):
            raise bad(path, None, f"{name}: expected finite numbers, got NaN or infinity in {key}")
        if key.endswith("running_var") and bool((tensor < 0).any()):
            text = f"expected variances of 0 or more, got {float(tensor.min()):.4g} in {key}"
            raise bad(path, None, f"{name}: {text}")


def check_shapes(
    path: Path | str, name: str, state: Mapping[str, Tensor], expected: Shapes
) -> None:
    """Check names and shapes of a network's state dictionary.

    Batch counters (`num_batches_tracked`) may be absent, and unexpected ones are allowed.
    """
    missing = [key for key in expected if key not in state and not is_counter(key)]
    extra = [key for key in state if key not in expected and not is_counter(key)]
    misshapen = [
        f"{key} is {_shape(state[key].shape)}, expected {_shape(shape)}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != tuple(shape)
    ]
    faults = {"missing": missing, "extra": extra, "misshapen": misshapen}
    if any(faults.values()):
        listed = [f"{len(keys)} {kind}: {_first(keys)}" for kind, keys in faults.items() if keys]
        raise bad(path, None, f"{name}: expected its {len(expected)} tensors; {'; '.join(listed)}")


def is_finite(tensor: Tensor) -> bool:
    """Return whether there is no NaN or infinity, in one pass without allocation."""
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    return all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def is_counter(key: str) -> bool:
    """Return whether a key is a batch norm's counter, which is never read."""
    return key.rsplit(".", 1)[-1] == "num_batches_tracked"


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _first(keys: list[str], count: int = 4) -> str:
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(key if len(key) < 160 else show(key) for key in keys[:count]) + more


def check_avatar(
    data: AvatarData, path: Path | str, sources: Mapping[str, Path] | None = None
) -> None:
    """Raise InputError at the first violation. Shapes are taken as checked.

    sources: the file of a part ("skeleton", "template", ...), which an error names; else `path`.
    """

    def need(holds: bool | Tensor, text: str) -> None:
        if not bool(holds):
            part = re.split(r"[.:\[]", text)[0]
            raise bad((sources or {}).get(part, path), None, text)

    def indices(tensor: Tensor, count: int, name: str) -> None:
        inside = tensor.numel() == 0 or (int(tensor.min()) >= 0 and int(tensor.max()) < count)
        need(inside, f"{name}: expected 0 to {count - 1}, got {_extremes(tensor)}")

    for name, tensor in _floats(data):
        # Every number is finite, except limits, which are infinite where there are none.
        fine = not tensor.isnan().any() if name == "skeleton.dof_limits" else is_finite(tensor)
        need(fine, f"{name}: expected finite numbers, got NaN or infinity")

    # Sizes: no part is empty.
    skeleton, skinning, template, graph = data.skeleton, data.skinning, data.template, data.graph
    joints = len(skeleton.joint_names)
    n_vertices, n_nodes = len(template.vertices), len(graph.vertices)
    sizes = {
        "joints": joints,
        "dofs": len(skeleton.dof_names),
        "bones": len(skinning.bone_names),
        "vertices": n_vertices,
        "faces": len(template.faces),
        "graph nodes": n_nodes,
        "bones a vertex": skinning.bones.shape[1],
        "texture pixels": template.texture.numel(),
    }
    for what, size in sizes.items():
        need(size > 0, f"expected at least one of its {what}, got none")
    need(
        sizes["dofs"] > HEADING_DOF,
        f"skeleton.dof_names: expected at least {HEADING_DOF + 1} dofs, three of translation and "
        f"the heading, got {sizes['dofs']}",
    )
    # Skeleton: counts, names, tree, axes, limits.
    need(len(skeleton.parents) == joints, f"skeleton.parents: expected {joints} joints")
    need(
        len(skeleton.dof_limits) == len(skeleton.dof_names),
        f"skeleton.dof_names: expected {len(skeleton.dof_limits)} names",
    )
    need(
        len(skinning.bone_joints) == len(skinning.bone_names),
        f"skinning.bone_names: expected {len(skinning.bone_joints)} names",
    )
    for key, names in (("joint", skeleton.joint_names), ("dof", skeleton.dof_names)):
        need(len(set(names)) == len(names), f"skeleton.{key}_names: expected different names")
    need(skeleton.parents[0] == -1, "skeleton.parents: expected -1 for the first joint, the root")
    above = torch.arange(joints)[1:]
    need(
        ((skeleton.parents[1:] >= 0) & (skeleton.parents[1:] < above)).all(),
        "skeleton.parents: expected every other joint's parent before the joint",
    )
    off = (skeleton.axes.norm(dim=-1) - 1.0).abs().max()
    need(off <= AXIS_TOLERANCE, f"skeleton.axes: expected unit axes, got one off by {off:.3g}")
    need(
        (skeleton.dof_limits[:, 0] <= skeleton.dof_limits[:, 1]).all(),
        "skeleton.dof_limits: expected low <= high",
    )
    # Skinning: indices and weights.
    indices(skinning.bone_joints, joints, "skinning.bone_joints")
    indices(skinning.bones, len(skinning.bone_names), "skinning.bones")
    off = (skinning.weights.sum(1) - 1.0).abs().max()
    need(
        off <= WEIGHT_TOLERANCE + 1e-5,
        f"skinning.weights: expected sums of 1, got one off by {off:.3g}",
    )
    low = skinning.weights.min()
    need(low >= -WEIGHT_TOLERANCE, f"skinning.weights: expected 0 or more, got {low:.6g}")
    # Template and embedded graph.
    indices(template.faces, n_vertices, "template.faces")
    low, high = template.corner_uvs.min(), template.corner_uvs.max()
    need(
        low >= -UV_TOLERANCE and high <= 1.0 + UV_TOLERANCE,
        f"template.corner_uvs: expected texture coordinates in 0 to 1, got {low:.4g} to {high:.4g}",
    )
    indices(graph.faces, n_nodes, "graph.faces")
    need(n_nodes <= n_vertices, f"graph: expected at most {n_vertices} nodes, got {n_nodes}")
    # Atlas, cameras, networks.
    least, most = ATLAS_RESOLUTIONS
    need(
        least <= data.atlas_resolution <= most,
        f"atlas_resolution: expected {least} to {most}, got {data.atlas_resolution}",
    )
    step = VARIANTS[data.variant].atlas_step
    need(
        data.atlas_resolution % step == 0,
        f"atlas_resolution: expected a multiple of {step}, which the U-Nets need, got "
        f"{data.atlas_resolution}",
    )
    _check_history(data, path)
    for number, camera in enumerate(data.cameras):
        _check_camera(camera, path, f"cameras[{number}]")
    _check_networks(data, path)
    if data.cloth is not None:
        _check_cloth(data, data.cloth, path)


def _check_cloth(data: AvatarData, cloth: Cloth, path: Path | str) -> None:
    """Check everything that the simulation indexes and divides by: it runs without checks."""

    def need(holds: bool | Tensor, text: str) -> None:
        if not bool(holds):
            raise bad(path, None, f"cloth.{text}")

    need(data.variant == "native", "points: expected none of a released avatar")
    # Indices.
    n_vertices, n_points = len(data.template.vertices), len(cloth.points)
    joints, spheres = len(data.skeleton.joint_names), len(cloth.sphere_joints)
    indexed = {
        "points": n_vertices,
        "followers": n_vertices,
        "carriers": joints,
        "anchors": n_points,
        "links": n_points,
        "follower_corners": n_points,
        "sphere_joints": joints,
        "capsules": spheres,
    }
    for name, count in indexed.items():
        tensor = getattr(cloth, name)
        inside = tensor.numel() == 0 or (int(tensor.min()) >= 0 and int(tensor.max()) < count)
        need(inside, f"{name}: expected 0 to {count - 1}, got {_extremes(tensor)}")
    vertices = cloth.vertices
    need(len(vertices.unique()) == len(vertices), "points: expected different vertices")
    need(n_points > 0, "points: expected at least one")
    pairs = cloth.links
    need((pairs[:, 0] != pairs[:, 1]).all(), "links: expected two different points")
    # Colours: from 0 to the number of links, never falling.
    starts = cloth.colours
    fine = len(starts) > 0 and int(starts[0]) == 0 and int(starts[-1]) == len(cloth.links)
    need(fine and (starts.diff() >= 0).all(), f"colours: expected 0 to {len(cloth.links)}, rising")
    # Numbers.
    for name in ("lengths", "sphere_radii"):
        need((getattr(cloth, name) >= 0).all(), f"{name}: expected 0 or more")
    loose = cloth.looseness
    need(((loose >= 0) & (loose <= 1)).all(), f"looseness: expected 0 to 1, got {_extremes(loose)}")
    for part in fields(cloth.constants):
        value = getattr(cloth.constants, part.name)
        fine = math.isfinite(value) and 0 <= value <= CLOTH_CONSTANT_MAX
        need(fine, f"constants.{part.name}: expected 0 to {CLOTH_CONSTANT_MAX:g}, got {value}")
    for name in ("stretch", "compress", "bend"):
        need(getattr(cloth.constants, name) > 0, f"constants.{name}: expected more than 0")
    need(
        1 <= cloth.passes <= CLOTH_PASSES_MAX,
        f"passes: expected 1 to {CLOTH_PASSES_MAX}, got {cloth.passes}",
    )
    need(cloth.floor is None or abs(cloth.floor) <= CLOTH_CONSTANT_MAX, "floor: expected metres")


def _check_camera(camera: Camera, path: Path | str, place: str) -> None:
    R, K = camera.viewmat[:3, :3].double(), camera.K
    rigid = (R @ R.T - torch.eye(3, dtype=R.dtype)).abs().max() <= 1e-3 and torch.linalg.det(R) > 0
    if not rigid or not torch.equal(camera.viewmat[3], torch.tensor([0.0, 0.0, 0.0, 1.0])):
        raise bad(path, None, f"{place}: expected a camera-from-world matrix, got no rotation")
    zeros = K.flatten()[[1, 3, 6, 7]]
    if not (K[0, 0] > 0 and K[1, 1] > 0 and K[2, 2] == 1) or bool(zeros.any()):
        raise bad(path, None, f"{place}: expected K with focal lengths and a principal point")
    if not (0 < camera.width <= MAX_SIDE_PX and 0 < camera.height <= MAX_SIDE_PX):
        actual = f"{camera.width} x {camera.height}"
        raise bad(path, None, f"{place}: expected an image of 1 to {MAX_SIDE_PX} px, got {actual}")


def _check_history(data: AvatarData, path: Path | str) -> None:
    """Check the pose history: as many poses as the variant's networks take, newest first."""
    frames, fps = data.history_offsets.frames, data.history_offsets.fps
    count = len(VARIANTS[data.variant].history_offsets.frames)
    rises = all(newer < older for newer, older in pairwise(frames))
    if len(frames) != count or frames[0] != 0 or not rises or frames[-1] > MAX_HISTORY_FRAMES:
        expected = f"{count} frames that rise from 0 to at most {MAX_HISTORY_FRAMES}"
        raise bad(path, None, f"history_offsets: expected {expected}, got {show(str(frames)[:60])}")
    if fps is not None and not 0 < fps <= MAX_HISTORY_FPS:
        text = f"expected a frame rate up to {MAX_HISTORY_FPS} Hz, got {fps}"
        raise bad(path, None, f"history_offsets: {text}")


def _check_networks(data: AvatarData, path: Path | str) -> None:
    expected = network_shapes(len(data.template.vertices), len(data.graph.vertices))
    if data.decoder:
        expected["decoder"] = _decoder_shapes(data.decoder, path)
    for name, state in data.networks.items():
        if name not in expected:
            raise bad(path, None, f"networks: expected {', '.join(expected)}; got {show(name)}")
        check_state(path, name, state, expected[name])
    for pair in (("spatial_gcn", "delta_gcn"), ("unet_geometry", "unet_appearance")):
        if len([name for name in pair if name in data.networks]) == 1:
            raise bad(path, None, f"networks: expected both of {' and '.join(pair)}, got one")
    required = VARIANTS[data.variant].required_networks
    if not {*required} <= {*data.networks}:
        text = f"expected {' and '.join(required)} of a {data.variant} avatar, got none"
        raise bad(path, None, f"networks: {text}")


def _decoder_shapes(settings: Mapping[str, int], path: Path | str) -> Shapes:
    names = [field.name for field in fields(DecoderConfig)]
    needed = {field.name for field in fields(DecoderConfig) if field.default is MISSING}
    if not needed <= set(settings) <= set(names):
        actual = ", ".join(map(show, settings))
        raise bad(path, None, f"decoder: expected settings {', '.join(names)}, got {actual}")
    config = DecoderConfig(**settings)
    least, most = ATLAS_RESOLUTIONS
    holds = {
        f"an atlas of {least} to {most}, a multiple of {DECODER_ATLAS_STEP}": (
            least <= config.atlas <= most and config.atlas % DECODER_ATLAS_STEP == 0
        ),
        f"a width of 1 to {DECODER_WIDTH_MAX}": 1 <= config.width <= DECODER_WIDTH_MAX,
        "an sh_degree of 0 to 2": 0 <= config.sh_degree <= 2,
        f"an offset_mm of 1 to {OFFSET_MM_MAX}": 1 <= config.offset_mm <= OFFSET_MM_MAX,
        f"atlas^2 * width of at most {DECODER_CELLS_MAX}, where narrower than "
        f"{DECODER_WIDTH_OF_MAPS} counts as that": (
            config.atlas**2 * max(config.width, DECODER_WIDTH_OF_MAPS) <= DECODER_CELLS_MAX
        ),
    }
    for text, ok in holds.items():
        if not ok:
            raise bad(path, None, f"decoder: expected {text}, got {dict(settings)}")
    return _shapes_of_decoder(config)


@functools.lru_cache(maxsize=16)
def _shapes_of_decoder(config: DecoderConfig) -> Shapes:
    with torch.device("meta"):
        state = Decoder(config).state_dict()
    return MappingProxyType({key: tuple(tensor.shape) for key, tensor in state.items()})


def _floats(record: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield dotted names and tensors of a record's floating-point fields, except networks."""
    assert is_dataclass(record), record
    for field in fields(record):
        value, name = getattr(record, field.name), prefix + field.name
        if isinstance(value, Tensor) and value.is_floating_point():
            yield name, value
        elif is_dataclass(value):
            yield from _floats(value, f"{name}.")
        elif isinstance(value, tuple):
            for number, item in enumerate(value):
                if is_dataclass(item):
                    yield from _floats(item, f"{name}[{number}].")


def _extremes(tensor: Tensor) -> str:
    return f"{int(tensor.min())} to {int(tensor.max())}" if math.prod(tensor.shape) else "none"
