"""Poses on the GPU: dofs in, posed meshes and motion maps out, as chains a CUDA graph can capture.

They compute the same as `character` and `Avatar.motion_map`, in kernels (kernels/pose.cu,
kernels/graph_net.cu, kernels/motion_map.cu): three launches a pose, 22 with the graph networks, one
a map. Bones run in float64, everything per vertex in float32; the delta network's weights and its
dense layer's input may be half.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ash_core.avatar import Avatar
from ash_core.character import Character
from ash_core.cloth.surface import LEAST_TANGENT_M, surface_table
from ash_core.conventions import HISTORY
from ash_core.errors import CudaError
from ash_core.geometry.embedded_graph import GraphLinks
from ash_core.geometry.kinematics import doubling_schedule
from ash_core.geometry.motion import HEADING_DOF, heading_joint
from ash_core.gpu.kernels import Program
from ash_core.gpu_frame.convolutions import KERNELS
from ash_core.networks.graph_net import BLOCKS, CHANNELS, DENSE_AFTER, FEATURES, GraphNet
from ash_core.records import Atlas, AvatarData, Skeleton, Skinning, to_device

MAX_JOINTS: Final = 256
MAX_BONES: Final = 256
"""Capacity of a block's shared memory, at 96 and 64 bytes each."""

THREADS = 256
WARPS = THREADS // 32
TEAM = 8
"""Lanes that share a vertex."""
DENSE_TILE = 32
"""Rows of a block of the half-precision dense layer, and inputs of one of its steps."""
ADD_SAVED, SAVE, NORMALISE, ELU, FOR_DENSE, FINISH = (1 << bit for bit in range(6))
"""Bits of a mode: operations between two graph convolutions, see graph_net.cu."""

PARTS = 6
"""Vectors of one texel in a motion map."""
ROOT_FLOATS = 16

PROGRAM = Program(
    KERNELS / "pose.cu",
    KERNELS / "cloth.cu",
    KERNELS / "graph_net.cu",
    KERNELS / "motion_map.cu",
    defines={
        "MAX_JOINTS": MAX_JOINTS,
        "MAX_BONES": MAX_BONES,
        "MAX_ROUNDS": MAX_JOINTS.bit_length() - 1,
        "THREADS": THREADS,
        "WARPS": WARPS,
        "TEAM": TEAM,
        "FEATURES": FEATURES,
        "DENSE_TILE": DENSE_TILE,
        "ADD_SAVED": ADD_SAVED,
        "SAVE": SAVE,
        "NORMALISE": NORMALISE,
        "ELU": ELU,
        "FOR_DENSE": FOR_DENSE,
        "FINISH": FINISH,
        "PARTS": PARTS,
        "ROOT_FLOATS": ROOT_FLOATS,
        "LEAST_TANGENT_M": LEAST_TANGENT_M,
    },
)

Launch = tuple[str, int | tuple[int, int], int, tuple[Tensor | int | float | None, ...]]
"""Kernel, grid, block, arguments."""


class PoseStage:
    """Poses of one avatar on the GPU: dofs in, posed meshes kept in a ring of slots.

    The caller fills `inputs` and `slot`, then `run` writes that slot of the ring. `motion_map`
    reads the slots in `window`. Both only launch kernels on fixed buffers.
    Raises: CudaError for a skeleton too large for the kernels.
    """

    SLOTS: Final = 64

    inputs: Float[Tensor, "4 D"]
    """float64: the pose's dofs, then its PoseWindow.normalised: poses n-2, n-1, n."""
    slot: Int[Tensor, "1"]
    """int32: slot that `run` writes."""
    window: Int[Tensor, "H"]
    """int32: slots of the poses, newest first."""
    cloth: Float[Tensor, "W 3"]
    """Places of the cloth's vertices in the pose, m."""
    has_cloth: Int[Tensor, "1"]
    """int32: 0 leaves the cloth where the skinning has it."""
    vertices: Float[Tensor, "S V 3"]
    normals: Float[Tensor, "S V 3"]
    canonical: Float[Tensor, "S V 3"]
    transforms: Float[Tensor, "S V 8"]
    """Dual quaternions that take canonical to posed: real wxyz, dual wxyz."""
    root: Float[Tensor, "S 16"]
    """0-2 root dofs (m), 3-5 position of the heading joint (m), 6-14 R_body_heading by rows."""

    def __init__(
        self,
        avatar: Avatar,
        device: torch.device | str,
        *,
        half: bool = True,
        buffers: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None = None,
    ) -> None:
        """Allocate the buffers and prepare all launches.

        half: store the delta network's weights in half precision. buffers: the caller's own
        `inputs`, `slot`, `window`, `cloth` and `has_cloth`.
        """
        character, device = avatar.character, torch.device(device)
        skeleton = to_device(character.skeleton, "cpu")
        skinning = to_device(character.skinning, "cpu")
        _expect_fitting(avatar.data.name, skeleton, skinning)
        if device.type == "cuda":
            PROGRAM.load(device)

        # Buffers: inputs of a pose, and the ring of posed meshes.
        n_vertices = len(character.template_vertices)
        self.inputs, self.slot, self.window, self.cloth, self.has_cloth = buffers or (
            torch.zeros(4, len(skeleton.dof_names), dtype=torch.float64, device=device),
            torch.zeros(1, dtype=torch.int32, device=device),
            torch.zeros(len(avatar.data.history_offsets.frames), dtype=torch.int32, device=device),
            torch.zeros(count_cloth(avatar.data), 3, device=device),
            torch.zeros(1, dtype=torch.int32, device=device),
        )
        places = torch.zeros(3, self.SLOTS, n_vertices, 3, device=device)
        self.vertices, self.normals, self.canonical = places
        self.transforms = torch.zeros(self.SLOTS, n_vertices, 8, device=device)
        self.root = torch.zeros(self.SLOTS, ROOT_FLOATS, device=device)

        # Launches.
        mesh = _MeshTables.of(character, device)
        networks = None
        if character.spatial_gcn is not None and character.delta_gcn is not None:
            spatial, delta = character.spatial_gcn, character.delta_gcn
            networks = _GraphNetworks(spatial, delta, mesh, device, half)
        self._launches = (
            self._pose_nodes(character, skeleton, skinning, mesh, networks),
            *(networks.launches if networks is not None else ()),
            self._pose_vertices(mesh, networks),
            *self._wear_cloth(avatar.data),
            self._vertex_normals(mesh),
        )
        self._map_launch = self._motion_map(avatar, device)

    def run(self) -> None:
        """Pose the mesh by `inputs` into slot `slot` of the ring."""
        for launch in self._launches:
            _launch(launch)

    def motion_map(self, out: Tensor) -> None:
        """Write the motion map of the poses of `window`, half, channels last.

        out: zeroed once by the caller, who owns it.
        Released: [r, r, 24], the channels of `Avatar.motion_map` and six that stay as they are.
        Native: [r/2, r/2, 72], 2x2 texels (u, v) as channels 4 c + 2 (u % 2) + v % 2.
        """
        kernel, grid, block, arguments = self._map_launch
        _launch((kernel, grid, block, (*arguments, out)))

    def _pose_nodes(
        self,
        character: Character,
        skeleton: Skeleton,
        skinning: Skinning,
        mesh: "_MeshTables",
        networks: "_GraphNetworks | None",
    ) -> Launch:
        device, n_joints = self.inputs.device, len(skeleton.joint_names)
        # Dof matrix by rows for the joints' values; one more row for the angle of the heading.
        heading = torch.zeros(1, len(skeleton.dof_names))
        heading[0, HEADING_DOF] = skeleton.dof_matrix[:, HEADING_DOF].sum()
        dofs = torch.cat((skeleton.dof_matrix, heading)).double().to_sparse_csr()
        joints = torch.zeros(n_joints, 8)
        joints[:, :3], joints[:, 4:7] = skeleton.axes, skeleton.offsets
        joints[:, 3] = skeleton.is_prismatic.float()
        ancestors = [
            torch.where(exists, up, -1) for up, exists in doubling_schedule(skeleton.parents)
        ]
        schedule = torch.stack(ancestors) if ancestors else torch.zeros(0, n_joints)
        rest_inverse = character.rest_inverse[:, :3].double()
        bones = skinning.bones[mesh.node_vertices].to(device, torch.int32)
        weights = skinning.weights[mesh.node_vertices].to(device)

        # Launch.
        def table(values: Tensor, dtype: torch.dtype) -> Tensor:
            return values.to(device, dtype).contiguous()

        threads = max(_round_up(3 * n_joints, 32), 128)
        n_nodes, rows = len(mesh.node_vertices), 1 if networks is None else 1 + HISTORY
        return (
            "pose_nodes",
            (rows, _blocks(n_nodes, threads)),
            threads,
            (
                self.inputs,
                len(skeleton.dof_names),
                table(dofs.crow_indices(), torch.int32),
                table(dofs.col_indices(), torch.int32),
                table(dofs.values(), torch.float64),
                table(joints, torch.float32),
                n_joints,
                table(schedule, torch.int32),
                len(schedule),
                table(skinning.bone_joints, torch.int32),
                table(rest_inverse, torch.float64),
                len(rest_inverse),
                bones,
                weights,
                n_nodes,
                bones.shape[1],
                heading_joint(skeleton),
                self.slot,
                mesh.nodes,
                networks and networks.matrices,
                networks and networks.node_inputs,
                self.root,
            ),
        )

    def _pose_vertices(self, mesh: "_MeshTables", networks: "_GraphNetworks | None") -> Launch:
        n_vertices = len(mesh.template)
        deformation = networks.deformation if networks is not None else (None,) * 5
        return (
            "pose_vertices",
            _blocks(n_vertices * TEAM, THREADS),
            THREADS,
            (
                n_vertices,
                mesh.nodes,
                mesh.link_starts,
                mesh.links,
                mesh.references,
                mesh.template,
                *deformation,
                self.slot,
                self.vertices,
                self.canonical,
                self.transforms,
            ),
        )

    def _wear_cloth(self, data: AvatarData) -> tuple[Launch, ...]:
        """Prepare the launches that move the cloth; none without it."""
        if data.cloth is None:
            return ()
        device, cloth = self.inputs.device, to_device(data.cloth, "cpu")
        template = to_device(data.template, "cpu")
        table = surface_table(template, cloth)
        n_worn, n_vertices = len(cloth.vertices), len(template.vertices)
        worn = cloth.vertices.to(device, torch.int32)
        worn_rows = torch.full((n_vertices,), -1, dtype=torch.int32)
        worn_rows[cloth.vertices] = torch.arange(n_worn, dtype=torch.int32)
        pad = torch.nn.functional.pad
        corners = pad(torch.from_numpy(table.corners), (0, 1)).to(device, torch.int32)
        weights = pad(torch.from_numpy(table.weights), (1, 1)).to(device, torch.float32)
        starts = _starts(torch.from_numpy(table.rows), n_worn).to(device)
        sizes, pose = (n_worn, n_vertices, self.has_cloth, worn), (self.cloth, self.slot)
        grid = _blocks(n_worn, THREADS)
        tables = worn_rows.to(device), starts, corners.contiguous(), weights.contiguous()
        rings = self.vertices, self.canonical, self.transforms
        return (
            ("turn_cloth", grid, THREADS, (*sizes, *tables, *pose, *rings)),
            ("place_cloth", grid, THREADS, (*sizes, *pose, self.vertices)),
        )

    def _vertex_normals(self, mesh: "_MeshTables") -> Launch:
        n_vertices = len(mesh.template)
        rings = (self.slot, self.vertices, self.normals)
        arguments = (n_vertices, mesh.face_starts, mesh.corners, *rings)
        return "vertex_normals", _blocks(n_vertices * TEAM, THREADS), THREADS, arguments

    def _motion_map(self, avatar: Avatar, device: torch.device) -> Launch:
        """Prepare the launch of the map, without its last argument."""
        atlas = to_device(avatar.atlas, "cpu")
        place = atlas.texels[:, 0] * atlas.resolution + atlas.texels[:, 1]
        corners = torch.cat((atlas.corners, place[:, None]), 1).to(device, torch.int32)
        weights = torch.nn.functional.pad(atlas.barycentrics, (0, 1)).to(device)
        rings = (self.vertices, self.normals, self.root, self.window, self.vertices.shape[1])
        if avatar.move_gains is None:
            grid = _blocks(len(corners) * PARTS, THREADS)
            return "motion_map_texels", grid, THREADS, (len(corners), corners, weights, *rings)
        pixels, quads = (values.to(device, torch.int32) for values in quads_of(atlas))
        grid = _blocks(len(pixels) * PARTS, THREADS)
        gains = avatar.move_gains.flatten().to(device)
        arguments = (len(pixels), pixels, quads, corners, weights, *rings, gains)
        return "motion_map_pixels", grid, THREADS, arguments


def count_cloth(data: AvatarData) -> int:
    """Count the vertices that an avatar's cloth moves."""
    return 0 if data.cloth is None else len(data.cloth.vertices)


def quads_of(atlas: Atlas) -> tuple[Int[Tensor, "P"], Int[Tensor, "P 4"]]:
    """List the pixels of the halved map with texels: position, texels of its 2x2, -1 for none."""
    side = atlas.resolution // 2
    iu, iv = atlas.texels.unbind(1)
    quads = torch.full((side * side, 4), -1)
    quads[iu // 2 * side + iv // 2, iu % 2 * 2 + iv % 2] = torch.arange(len(iu))
    pixels = (quads >= 0).any(1).nonzero()[:, 0]
    return pixels, quads[pixels]


@dataclass(frozen=True)
class _MeshTables:
    """The template, its graph and its faces in the layout of the kernels. int32, float32."""

    template: Float[Tensor, "V 3"]
    node_vertices: Int[Tensor, "G"]
    """On the CPU."""
    nodes: Float[Tensor, "G 8"]
    """Dual quaternions of the pose at the nodes: written by one kernel, read by another."""
    link_starts: Int[Tensor, "V+1"]
    links: Int[Tensor, "M 2"]
    references: Int[Tensor, "V"]
    face_starts: Int[Tensor, "V+1"]
    corners: Int[Tensor, "I 4"]
    """Vertices of each face of each vertex."""

    @staticmethod
    def of(character: Character, device: torch.device) -> "_MeshTables":
        links: GraphLinks = to_device(character.links, "cpu")
        faces, n_vertices = character.faces.cpu(), len(character.template_vertices)
        by_vertex = faces.flatten().argsort(stable=True)
        corners = torch.nn.functional.pad(faces[by_vertex // 3], (0, 1))
        return _MeshTables(
            template=character.template_vertices.detach().to(device).contiguous(),
            node_vertices=links.node_vertices,
            nodes=torch.zeros(len(links.node_vertices), 8, device=device),
            link_starts=_starts(links.link_vertices, n_vertices).to(device),
            links=_pairs(links.link_nodes, links.link_weights).to(device),
            references=character.references.to(device, torch.int32),
            face_starts=_starts(faces.flatten(), n_vertices).to(device),
            corners=corners.to(device, torch.int32),
        )


class _GraphNetworks:
    """Both graph networks: the nodes of one and the vertices of the other as rows of one table.

    Step s ends convolution s and begins the next. The delta network is one step behind after its
    dense layer, and its last mean is computed by the kernel that poses the vertices.
    """

    def __init__(
        self,
        spatial: GraphNet,
        delta: GraphNet,
        mesh: _MeshTables,
        device: torch.device,
        half: bool,
    ) -> None:
        # Sizes.
        nodes, vertices = _Layers(spatial), _Layers(delta)
        n_nodes, n_vertices = len(mesh.node_vertices), len(mesh.template)
        rows, steps = n_nodes + n_vertices, len(nodes.names)
        dense_step = 2 * (DENSE_AFTER + 1) + 1  # beside the spatial network's step of this number

        def floats(*shape: int) -> Tensor:
            return torch.zeros(*shape, device=device)

        # Weights in the chosen precision.
        def weights(kernel: Tensor) -> tuple[Tensor | None, Tensor | None]:
            """Convert weights of the delta network: (float, half), one of them None."""
            moved = kernel.to(device)
            return (None, moved.half()) if half else (moved.contiguous(), None)

        # Buffers of the features, and tables of the graph.
        self.matrices = floats(n_nodes, HISTORY, 12)
        self.node_inputs = floats(n_nodes, CHANNELS["spatial"][0])
        mapped, saved = (floats(rows, FEATURES), floats(rows, FEATURES)), floats(rows, FEATURES)
        moves = floats(n_nodes, 12)
        starts, neighbours = (table.to(device) for table in _joined(spatial, delta, n_nodes))
        positions = mesh.template[mesh.node_vertices.to(device)].contiguous()

        # Dense layer of the delta network.
        dense_kernel = delta.dense_0_gcnn.kernel.detach().cpu()
        dense, dense_input = None, None
        if half:
            dense = pack_dense(dense_kernel).to(device)
            chunks = _blocks(n_vertices, DENSE_TILE)
            shape = (chunks, FEATURES, DENSE_TILE)
            dense_input = torch.zeros(shape, dtype=torch.half, device=device)
        dense_floats = None if half else dense_kernel.to(device)

        # First launch: inputs of both networks, mapped.
        first = (nodes.first_kernel().to(device), *weights(vertices.first_kernel()))
        links = (mesh.link_starts, mesh.links, mesh.template)
        inputs = (n_nodes, n_vertices, self.node_inputs, first[0], self.matrices)
        arguments: tuple[Any, ...] = (*inputs, *links, *first[1:], mapped[0])
        launches: list[Launch] = [("first_maps", _blocks(rows, WARPS), THREADS, arguments)]

        # One launch a step.
        for step in range(steps):
            behind = step - (step >= dense_step)  # the delta network's own step
            vertex_mode, vertex_bias = _delta_mode(behind), vertices.bias(behind)
            if step == dense_step:
                vertex_mode = ADD_SAVED | SAVE | ELU
                vertex_bias = delta.dense_0_gcnn.bias.detach().cpu()
            node_kernel = nodes.kernel(step + 1).to(device) if step + 1 < steps else None
            vertex_kernel = (
                (None, None) if vertex_mode & FOR_DENSE else weights(vertices.kernel(behind + 1))
            )
            common = (
                starts,
                neighbours,
                mapped[step % 2],
                torch.cat((nodes.bias(step), vertex_bias)).to(device),
                nodes.norm(step).to(device),
                node_kernel,
                *vertex_kernel,
            )
            modes, following = (_spatial_mode(step, steps), vertex_mode), mapped[(step + 1) % 2]
            if step == dense_step:
                arguments = (n_nodes, n_vertices, *modes, *common, saved, following)
                arguments = (*arguments, dense_floats, dense, dense_input)
                grid = _blocks(n_vertices, DENSE_TILE) + _blocks(n_nodes, WARPS)
                launches.append(("graph_dense", grid, THREADS, arguments))
            else:
                arguments = (rows, n_nodes, *modes, *common, positions, saved, following)
                arguments = (*arguments, dense_input, moves)
                launches.append(("graph_step", _blocks(rows, WARPS), THREADS, arguments))

        # Arguments of `pose_vertices`.
        self.launches = tuple(launches)
        last_bias = vertices.bias(steps - 1)[:, :4].to(device).contiguous()
        # The rows of the delta network follow the nodes: its starts are a view.
        self.deformation = (moves, starts[n_nodes:], neighbours, mapped[steps % 2], last_bias)


class _Layers:
    """Parameters of a graph network by step, padded to whole features; float32 on the CPU."""

    def __init__(self, net: GraphNet) -> None:
        blocks = [f"gcnn_{block}_{half}" for block in range(BLOCKS) for half in range(2)]
        self.names = ("gcnn_0", *blocks, "final_gcnn")
        self._net = net
        self._state = {name: value.detach().cpu() for name, value in net.state_dict().items()}

    def first_kernel(self) -> Float[Tensor, "n c 16"]:
        """Return the kernel of the first convolution, inputs first as in the network."""
        return self._state["gcnn_0.kernel"]

    def kernel(self, step: int) -> Float[Tensor, "n 16 16"]:
        """Return the kernel of a convolution, outputs first."""
        kernel = self._state[f"{self.names[step]}.kernel"].transpose(1, 2)
        missing = FEATURES - kernel.shape[1]
        return torch.nn.functional.pad(kernel, (0, 0, 0, missing)).contiguous()

    def bias(self, step: int) -> Float[Tensor, "n 16"]:
        bias = self._state[f"{self.names[step]}.bias"]
        return torch.nn.functional.pad(bias, (0, FEATURES - bias.shape[1]))

    def norm(self, step: int) -> Float[Tensor, "n 32"]:
        """Return scale and shift of the norm after a step; zeros after the last two."""
        n_nodes = len(self.first_kernel())
        if step >= 2 * BLOCKS:
            return torch.zeros(n_nodes, 2 * FEATURES)
        name = f"bn_{step // 2}_{step % 2}"
        norm = getattr(self._net, name)
        weight, bias, mean, var = (
            self._state[f"{name}.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight * torch.rsqrt(var + norm.eps)
        parts = (scale, bias - mean * scale)
        return torch.cat([part.reshape(n_nodes, FEATURES) for part in parts], 1)


def _spatial_mode(step: int, steps: int) -> int:
    if step == steps - 1:
        return FINISH
    return _between(step) | (NORMALISE if step < 2 * BLOCKS else 0)


def _delta_mode(step: int) -> int:
    return _between(step) | (FOR_DENSE if step == 2 * (DENSE_AFTER + 1) else 0)


def _between(step: int) -> int:
    """Choose the mode between two steps: the end of a block adds its saved input, and is saved."""
    if step % 2 == 1:
        return 0
    return SAVE | ELU | (ADD_SAVED if step > 0 else 0)


def pack_dense(kernel: Float[Tensor, "n n"]) -> Tensor:
    """Pack a dense layer in half precision, padded to whole tiles, in the order that a warp reads.

    [tiles of 16 rows, chunks of 32 inputs, 2 halves of a tile, 8 rows, 4, 8 inputs].
    """
    n = len(kernel)
    size = _round_up(n, DENSE_TILE)
    padded = torch.zeros(size, size, dtype=torch.half)
    padded[:n, :n] = kernel
    return padded.reshape(size // 16, 2, 8, size // 32, 4, 8).permute(0, 3, 1, 2, 4, 5).contiguous()


def _joined(spatial: GraphNet, delta: GraphNet, n_nodes: int) -> tuple[Tensor, Tensor]:
    """Join (starts, neighbours) of both networks' rows."""
    upper, lower = spatial.adjacency.cpu(), delta.adjacency.cpu()
    count = len(upper.col_indices())
    starts = torch.cat((upper.crow_indices()[:-1], lower.crow_indices() + count))
    columns = torch.cat((upper.col_indices(), lower.col_indices() + n_nodes))
    weights = torch.cat((upper.values(), lower.values()))
    return starts.int(), _pairs(columns, weights)


def _starts(owners: Int[Tensor, "m"], count: int) -> Int[Tensor, "count+1"]:
    """Compute the start of each owner's entries in a list sorted by owner; int32."""
    counts = torch.bincount(owners, minlength=count)
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()


def _pairs(ids: Int[Tensor, "m"], weights: Float[Tensor, "m"]) -> Int[Tensor, "m 2"]:
    """Pair index and weight, the weight's bits as int32."""
    return torch.stack((ids.int(), weights.float().view(torch.int32)), 1).contiguous()


def _expect_fitting(name: str, skeleton: Skeleton, skinning: Skinning) -> None:
    joints, bones = len(skeleton.joint_names), len(skinning.bone_names)
    if joints > MAX_JOINTS or bones > MAX_BONES:
        raise CudaError(
            f"{name}: the GPU kernels take {MAX_JOINTS} joints and {MAX_BONES} bones, got {joints} "
            f"and {bones}: use fewer, or render without them"
        )


def _launch(launch: Launch) -> None:
    kernel, grid, block, arguments = launch
    PROGRAM.launch(kernel, grid, block, *arguments)


def _blocks(items: int, each: int) -> int:
    return -(-items // each)


def _round_up(count: int, step: int) -> int:
    return _blocks(count, step) * step
