"""The published character and its sample person: every published array, frames 1 and 600."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from published import (
    CANONICAL_MAP_MM,
    CANONICAL_MM,
    CONDITION_MM,
    DELTA,
    DQS_MM,
    DUAL_MM,
    JOINTS_MM,
    LBS_MM,
    NORMALS,
    PICKED_MM,
    PICKED_RAD,
    POSED_MM,
    POSED_TEMPLATE_MM,
    REAL,
    SPATIAL,
    TRANSFORM_MM,
    arrays,
    close,
    in_mm,
    seeded_weights,
)

from ash_core.avatar import Avatar, ReleasedAvatar
from ash_core.character import Character
from ash_core.files.obj import read_obj
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry import skinning
from ash_core.geometry.embedded_graph import REACH
from ash_core.geometry.kinematics import joint_transforms, local_transforms
from ash_core.geometry.mesh import face_normals, vertex_adjacency, vertex_normals
from ash_core.geometry.motion import pose_window
from ash_core.geometry.spherical_harmonics import rgb_to_sh
from ash_core.networks.graph_net import RINGS, ring_adjacency
from ash_core.records import AvatarData, Motion
from ash_core.training import warmup
from ash_core.variants import RELEASED

NETWORKS = ("spatial_gcn", "delta_gcn", "unet_geometry", "unet_appearance")
FRAMES = (1, 600)
ASSEMBLED = {"train": 4 * 3.4e-4, "eval": 4 * 3.8e-5}
"""Looser than the nets' own noise: noise of the published size in their input (positions 1.3e-6 m,
normals 2.7e-5 on average) moves the seeded nets' outputs by this much."""


@pytest.fixture(scope="module")
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def data(reference: Path) -> AvatarData:
    """The sample with the seeded networks, as a released avatar of atlas 64."""
    sample, _ = import_ash(reference / "ddc_sample")
    networks = {name: seeded_weights(name) for name in NETWORKS}
    return dataclasses.replace(
        sample,
        variant="released",
        history_offsets=RELEASED.history_offsets,
        networks=networks,
        atlas_resolution=64,
        root_translation=torch.tensor([0.0, -0.5, 0.0]),
    )


@pytest.fixture(scope="module")
def motion(reference: Path, data: AvatarData) -> Motion:
    folder = reference / "ddc_sample" / "skeletoolToGTPose"
    return read_motion(folder / "poseAngles.motion", data.skeleton)


@pytest.fixture(scope="module")
def avatar(data: AvatarData, no_grad: None) -> ReleasedAvatar:
    released = Avatar.from_data(data)
    assert isinstance(released, ReleasedAvatar)
    return released


@pytest.fixture(scope="module")
def character(avatar: ReleasedAvatar) -> Character:
    return avatar.character


def test_01_skeleton(reference: Path, data: AvatarData, motion: Motion, no_grad: None) -> None:
    s = data.skeleton
    with arrays(reference / "golden" / "01_skeleton.npz") as z:
        assert len(s.joint_names) == z["n_joints"]
        assert len(s.dof_names) == z["n_dofs"]
        assert list(s.joint_names) == z["joint_names"].tolist()
        assert list(s.dof_names) == z["dof_names"].tolist()
        assert (s.parents.numpy() == z["parents"]).all()
        assert (s.is_prismatic.numpy() == (z["joint_types"] == "prismatic")).all()
        close(s.axes, z["joint_axis"], 1e-6)
        close(s.offsets * 1000, z["joint_local_offset_mm"], 1e-4)
        limits = np.nan_to_num(s.dof_limits.double().numpy(), posinf=1e9, neginf=-1e9)
        close(limits, z["dof_limits"], 1e-6)
        # Of the release's bookkeeping we keep none; it follows from the parents and offsets.
        depth = np.zeros(len(s.parents), int)
        base = np.arange(len(s.parents))
        for joint, parent in enumerate(s.parents.tolist()):
            depth[joint] = 0 if parent < 0 else depth[parent] + 1
            if parent >= 0 and s.offsets[joint].abs().max() == 0:
                base[joint] = base[parent]
        assert (depth == z["layer_of_joint"]).all()
        assert depth.max() + 1 == z["n_layers"]
        assert (base == z["base_joint_id"]).all()
        weights = np.zeros((len(s.joint_names), len(s.dof_names)), np.float32)
        for (joint, dof), weight in zip(z["joint_dof_nz"], z["joint_dof_w"], strict=True):
            weights[joint, dof] = weight / (1000 if s.is_prismatic[joint] else 1)
        close(s.dof_matrix, weights, 1e-7)

        frames = z["frames"]
        close(motion.dofs[frames], z["dofs"], 0.0)
        close(data.rest_dofs, z["rest_dof"], 0.0)
        joints = in_mm(joint_transforms(s, motion.dofs[frames]))
        close(joints, z["G"], JOINTS_MM)
        close(joints[:, ::4], z["G_f64"], JOINTS_MM)
        rest = in_mm(joint_transforms(s, data.rest_dofs[None]))
        close(rest, z["G_rest"], JOINTS_MM)
        bare = dataclasses.replace(s, offsets=torch.zeros_like(s.offsets))
        close(in_mm(local_transforms(bare, motion.dofs[600])), z["local_rot_frame600"], JOINTS_MM)


def test_01b_normalised_dofs(reference: Path, data: AvatarData, motion: Motion) -> None:
    live = dataclasses.replace(motion, normalised=None)
    with arrays(reference / "golden" / "01b_normalised_dofs.npz") as z:
        for frame, want in zip(z["frames"].tolist(), z["dofn"], strict=True):
            close(
                pose_window(motion, frame, data.skeleton, data.history_offsets).normalised[0],
                want,
                0.0,
            )
            # The file was rounded to six decimals after a float32 computation, 1.1e-5.
            # Source: docs/released_behaviour.md A4.
            close(
                pose_window(live, frame, data.skeleton, data.history_offsets).normalised[0],
                want,
                1.2e-5,
            )


def test_02_mesh(reference: Path, data: AvatarData, character: Character) -> None:
    mesh = read_obj(reference / "ddc_sample" / "ddc.obj")
    template = data.template
    with arrays(reference / "golden" / "02_mesh.npz") as z:
        assert len(template.vertices) == z["n_verts"]
        millimetres = mesh.vertices.float()
        close(millimetres[::16], z["verts_mm_every16"], 0.0)
        assert _sha(millimetres.numpy()) == str(z["verts_sha"])
        close(template.vertices[::16] * 1000, z["verts_mm_every16"], 2e-4)
        assert (template.faces.numpy() == z["faces"]).all()
        corners = template.corner_uvs.float()
        close(corners[::8], z["uv_corner_every8"], 0.0)
        assert _sha(corners.numpy()) == str(z["uv_sha"])
        lines = (reference / "ddc_sample" / "ddc.obj").read_text().splitlines()
        assert sum(line.startswith("vt ") for line in lines) == z["n_vt"]
        assert mesh.colours is not None
        close(mesh.colours[::64], z["vertex_colors_every64"], 1e-6)

        adjacency = vertex_adjacency(template.faces, len(template.vertices))
        assert (np.diff(adjacency.indptr) == z["n_neighbors"]).all()
        for vertex, want in zip(z["neighbor_of"], z["neighbors"], strict=True):
            assert np.sort(adjacency[int(vertex)].indices).tolist() == want[want >= 0].tolist()
        normals = vertex_normals(template.vertices[None], template.faces, character._face_mean)
        close(normals[0, ::4], z["vert_normals_every4"], NORMALS)
        close(
            face_normals(template.vertices, template.faces)[::16],
            z["face_normals_every16"],
            NORMALS,
        )
        faces_of = [[] for _ in range(len(template.vertices))]
        for face, corners_of in enumerate(template.faces.tolist()):
            for vertex in corners_of:
                faces_of[vertex].append(face)
        assert max(map(len, faces_of)) == z["max_adj"]
        for vertex, want in enumerate(z["vert_adj_faces_first"]):
            assert want[: len(faces_of[vertex])].tolist() == faces_of[vertex]
        assert tuple(template.texture.shape[1::-1]) == tuple(z["tex_size_wh"])
        close(template.texture[::32, ::32].float() / 255, z["tex_rgb_every32"], 1e-6)
        labels = np.loadtxt(reference / "ddc_sample" / "segmentation.txt", dtype=int)
        assert (np.bincount(labels, minlength=19) == z["seg_labels_count"]).all()
        assert len(data.graph.vertices) == z["graph_n_verts"]
        assert (data.graph.faces.numpy() == z["graph_faces"]).all()
        close(data.graph.vertices * 1000, z["graph_verts_mm"], 2e-4)


def test_03_skinning(
    reference: Path, data: AvatarData, motion: Motion, character: Character
) -> None:
    s = data.skinning
    with arrays(reference / "golden" / "03_skinning.npz") as z:
        assert (s.bone_joints.numpy() == z["skin_joint_ids"]).all()
        names = [data.skeleton.joint_names[joint] for joint in s.bone_joints]
        assert names == z["skin_joint_names"].tolist()
        count, slots = s.bones.shape
        assert (np.repeat(np.arange(count), slots) == z["w_vert"]).all()
        assert (s.bones.flatten().numpy() == z["w_joint"]).all()
        close(s.weights.flatten(), z["w_value"], 1e-7)
        assert (s.bones[:, :1].expand(-1, slots).flatten()[:64].numpy() == z["w_fst_first64"]).all()
        close(in_mm(character.rest_inverse), z["rest_inv"], JOINTS_MM)

        frames, verts = z["frames"], z["verts"]
        some, half = (
            (s.bones[verts], s.weights[verts]),
            (s.bones[verts[::2]], s.weights[verts[::2]]),
        )
        vertices = data.template.vertices[verts]
        for i, frame in enumerate(frames.tolist()):
            _, bones, relative = character.bone_transforms(motion.dofs[[frame]])
            blended = _matrix(skinning.blend_bones(*dq.from_matrix(bones), *half))
            close(in_mm(blended), z["dqs_global"][i][:, :3], DQS_MM)
            real, dual = skinning.blend_bones(*dq.from_matrix(relative), *some)
            close(in_mm(_matrix((real, dual))), z["dqs_relative"][i][:, :3], DQS_MM)
            close(in_mm(_matrix((real, dual)))[::8], z["dqs_relative_f64"][i][:, :3], DQS_MM)
            linear = skinning.lbs_matrices(relative, *half)[0]
            close(in_mm(linear), z["lbs_relative"][i], LBS_MM)
            if frame == 600:
                posed = dq.apply(real[0], dual[0], vertices.double())
                close(1000 * posed, z["posed_dqs_frame600"], DQS_MM)
                matrices = skinning.lbs_matrices(relative, *some)[0]
                posed = (matrices[:, :3, :3] @ vertices[..., None].double())[..., 0]
                close(1000 * (posed + matrices[:, :3, 3]), z["posed_lbs_frame600"], LBS_MM)


def test_04_embedded_graph(reference: Path, data: AvatarData, character: Character) -> None:
    links, graph = character.links, data.graph
    with arrays(reference / "golden" / "04_embedded_graph.npz") as z:
        assert (links.node_vertices.numpy() == z["graph_node_idx"]).all()
        assert (z["node_radius"] == REACH).all()
        assert (links.link_vertices.numpy() == z["link_temp_id"]).all()
        assert (links.link_nodes.numpy() == z["link_node_id"]).all()
        close(links.link_weights, z["link_weight"], 1e-7)
        first = links.first_nodes[links.link_vertices].numpy()
        assert (first == z["link_fst"]).all()
        published = links.published_reference[links.link_vertices].numpy()
        assert (published == z["link_node_id"][z["link_fst"]]).all()
        assert links.fallback_vertices.tolist() == z["fallback_verts"].tolist()
        counts = np.bincount(links.link_vertices.numpy())
        assert (counts == z["links_per_vertex"]).all()
        edges = vertex_adjacency(graph.faces, len(graph.vertices)).tocoo()
        ours = set(zip(edges.row.tolist(), edges.col.tolist(), strict=True))
        start, end = z["node_neighbor_st"].tolist(), z["node_neighbor_ed"].tolist()
        assert ours == set(zip(start, end, strict=True))
        heights, nodes = data.template.vertices[:, 1], graph.vertices[:, 1]
        extremes = [heights.argmax(), heights.argmin(), nodes.argmax(), nodes.argmin()]
        assert sorted(map(int, extremes)) == sorted(z["extreme_ids"].tolist())


def test_05_posed_template(reference: Path, character: Character) -> None:
    with arrays(reference / "golden" / "05_posed_template.npz") as z:
        frames = z["frames"].tolist()
        kept = [row * len(frames) + i for row in range(3) for i, f in enumerate(frames)]
        posed, euler, place = character.network_inputs(torch.from_numpy(z["dof"])[kept])
        posed, place = 1000 * posed, 1000 * place
        close(posed[:, ::8], z["posed"][kept], POSED_TEMPLATE_MM)
        close(posed[-1], z["posed_full_last"], POSED_TEMPLATE_MM)
        close(posed[:, ::64], z["posed_f64"][kept], POSED_TEMPLATE_MM)
        close(
            _turns(euler[:, ::4].numpy() - z["euler"][kept]), np.zeros(z["euler"].shape), PICKED_RAD
        )
        close(
            _turns(euler[:, ::32].numpy() - z["euler_f64"][kept]),
            np.zeros(z["euler_f64"].shape),
            PICKED_RAD,
        )
        close(place[:, ::4], z["trans"][kept], PICKED_MM)
        close(place[:, ::32], z["trans_f64"][kept], PICKED_MM)


def test_06_graph_networks(
    reference: Path, data: AvatarData, motion: Motion, character: Character
) -> None:
    with arrays(reference / "golden" / "06_gcn.npz") as z:
        for kind, faces, n in (
            ("spatial", data.graph.faces, len(data.graph.vertices)),
            ("delta", data.template.faces, len(data.template.vertices)),
        ):
            matrix = ring_adjacency(faces, n, RINGS[kind])  # type: ignore[index]
            assert matrix.nnz == z[f"{kind}_A_nnz"]
            for row in (0, 100, n - 1):
                want = z[f"{kind}_A_row{row}"]
                got = np.zeros(n)
                got[want[:, 0].astype(int)] = want[:, 1]
                close(matrix[row].toarray()[0], got, 2e-8)
        for frame in z["frames"].tolist():
            if f"spatial_in_{frame}" not in z._npz:
                continue
            window = pose_window(motion, frame, data.skeleton, data.history_offsets)
            posed, angles, places = character.network_inputs(window.normalised[0])
            seen = torch.cat((places, angles), -1).transpose(0, 1).flatten(1)
            want = z[f"spatial_in_{frame}"]
            wrapped = want + _turns(seen.numpy() - want)
            close(wrapped, want, PICKED_RAD)
            rows = 1000 * posed.transpose(0, 1).flatten(1)
            want = z[f"delta_in_{frame}"]
            close(rows[:: 1 if len(want) == len(rows) else 16], want, POSED_TEMPLATE_MM)
            found = character.deformation(window.normalised)
            assert found is not None
            nodes = torch.cat((found.node_translations, found.node_angles), -1)
            close(nodes[0], z[f"spatial_out_{frame}"], SPATIAL)
            close(nodes[1:, ::8], z[f"spatial_out_hist_{frame}"], SPATIAL)
            close(found.displacements[0], z[f"delta_out_{frame}"], DELTA)
            close(found.displacements[1:, ::32], z[f"delta_out_hist_{frame}"], DELTA)
            if frame == 600:
                close(nodes[0, ::4], z["spatial_out_600_f64"], SPATIAL)
                close(found.displacements[0, ::16], z["delta_out_600_f64"], DELTA)


def test_07_posed_mesh(
    reference: Path, data: AvatarData, motion: Motion, character: Character
) -> None:
    with arrays(reference / "golden" / "07_forward_test.npz") as z:
        for frame in z["frames"].tolist():
            if frame not in FRAMES:
                continue
            mesh = character(pose_window(motion, frame, data.skeleton, data.history_offsets))
            posed, canonical = 1000 * mesh.vertices, 1000 * mesh.canonical
            close(posed[0], z[f"posed_{frame}"], POSED_MM)
            close(posed[1:, ::8], z[f"posed_hist_{frame}"], POSED_MM)
            want = z[f"canonical_{frame}"]
            close(canonical[:: 1 if len(want) == len(canonical) else 4], want, CANONICAL_MM)
            real, dual = mesh.real[::4].numpy(), 1000 * mesh.dual[::4].numpy()
            # q and -q are one transform: compare with the published one's sign.
            same = (real * z[f"rot_quat_{frame}"]).sum(-1, keepdims=True) > 0
            sign = np.where(same, 1.0, -1.0)
            close(sign * real, z[f"rot_quat_{frame}"], REAL)
            close(sign * dual, z[f"trans_quat_{frame}"], DUAL_MM)
            close(1000 * mesh.joints, z[f"joints_{frame}"], JOINTS_MM)
            if frame == 600:
                close(posed[0, ::16], z["posed_600_f64"], POSED_MM)
                close(canonical[::16], z["canonical_600_f64"], CANONICAL_MM)


def test_08_texels_and_maps(
    reference: Path, data: AvatarData, motion: Motion, avatar: ReleasedAvatar
) -> None:
    at_256 = Avatar.from_data(dataclasses.replace(data, atlas_resolution=256))
    with arrays(reference / "golden" / "08_ash_features.npz") as z:
        some = z["sub_256"]
        assert [len(a.atlas.faces) for a in (avatar, at_256)] == z["n_texels"].tolist()
        for ours, size in ((avatar, 64), (at_256, 256)):
            iu, iv = ours.atlas.texels.T
            faces = torch.full((size, size), -1)
            faces[iu, iv] = ours.atlas.faces
            assert (faces.numpy() == z[f"uv_face_id_{size}"]).all()
            texels = slice(None) if size == 64 else some
            # Ours are kept in float32.
            close(ours.atlas.barycentrics[texels], z[f"uv_bary_{size}"], 1e-7)
        assert (avatar.atlas.texels.numpy() == z["uv_idx_64"]).all()
        assert (avatar.atlas.barycentrics.argmax(-1).numpy() == z["uv_argmax_64"]).all()
        for frame in FRAMES:
            window = pose_window(motion, frame, data.skeleton, data.history_offsets)
            mesh = avatar.character(window)
            root = mesh.root.double().numpy() / 1.2 - [0, -0.5, 0]
            close(root, z[f"fgt_{frame}"], 2e-7)
            for ours, name, texels in ((avatar, "", slice(None)), (at_256, "256", some)):
                atlas = ours.atlas
                seen = ours.motion_map(mesh, window)[0].flatten(1)[:, ours.flat].T[texels]
                close(1000 * seen[:, :9], z[f"cond{name}_{frame}"], CONDITION_MM)
                close(seen[:, 9:], z[f"normal{name}_{frame}"], NORMALS)
                canonical = 1000 * ours.at_texels(mesh.canonical[None])[texels]
                close(canonical, z[f"canon{name}_{frame}"], CANONICAL_MAP_MM)
                moved = in_mm(_texel_matrix(atlas, mesh))[texels]
                close(moved, z[f"transform{name}_{frame}"][:, :3], TRANSFORM_MM)
                if not name:
                    close(moved[::16], z[f"transform64_f64_{frame}"][:, :3], TRANSFORM_MM)
        close(mesh.normals[0, ::4], z["vert_normals_600"], NORMALS)


def test_10_gaussians(
    reference: Path, data: AvatarData, motion: Motion, avatar: ReleasedAvatar
) -> None:
    with arrays(reference / "golden" / "10_gaussians_64.npz") as z:
        for frame in FRAMES:
            window = pose_window(motion, frame, data.skeleton, data.history_offsets)
            mesh = avatar.character(window)
            seen = avatar.motion_map(mesh, window)
            if frame == 1:
                close(1000 * seen[0, :9, ::4, ::4], 1000 * z["net_in_1"][:9], CONDITION_MM)
                close(seen[0, 9:, ::4, ::4], z["net_in_1"][9:], NORMALS)
                root = mesh.root[None] / 1.2 - data.root_translation
                close(root, z["net_global_1"], 2e-7)
            for mode in ("train", "eval"):
                for net in (avatar.geometry, avatar.appearance):
                    net.use_running_statistics(mode == "eval")
                raw = avatar.decode(seen, mesh)
                gaussians = avatar.assemble(raw, mesh)
                got = {
                    "xyz": gaussians.means,
                    "scales": gaussians.scales,
                    "rot": gaussians.quats,
                    "opacity": gaussians.opacities[:, None],
                    "shs": raw[:, 11:].reshape(-1, 16, 3),
                }
                if frame == 1:
                    got["geo_feats"] = raw[:, :11]
                for name, value in got.items():
                    close(value, z[f"{mode}_{frame}_{name}"], ASSEMBLED[mode])
                close(gaussians.sh, z[f"{mode}_{frame}_shs"][:, :1], ASSEMBLED[mode])
            for net in (avatar.geometry, avatar.appearance):
                net.use_running_statistics(False)
        assert set(z["frames"].tolist()) >= set(FRAMES)


def test_11_warmup_targets(
    reference: Path, data: AvatarData, motion: Motion, avatar: ReleasedAvatar
) -> None:
    with arrays(reference / "golden" / "11_ref_gaussian.npz") as z:
        window = pose_window(motion, int(z["frame"]), data.skeleton, data.history_offsets)
        mesh = avatar.character(window)
        raw = torch.zeros(len(avatar.atlas.faces), 59)
        means = avatar.assemble(raw, mesh).means
        close(means, z["xyz"], POSED_MM / 1000)
        normals = avatar.at_texels(mesh.normals[:1]) @ avatar._world.T
        colours = warmup.published_texel_colours(data.template.texture, avatar.atlas)
        target = warmup.warm_up_target(means, normals)
        # A neighbour at 12 mm that moves by float32 noise (5e-6 m) changes the log by 4e-4.
        close(target.log_scales[:, None].expand(-1, 3), z["log_scales"], 4e-4)
        # The texel's normal is far from unit where the surface bends: its direction is noisier.
        close(target.quats, z["rot"], 2 * NORMALS)
        close(colours, z["colors"], 1e-6)
        close(rgb_to_sh(colours)[:, None], z["features_dc"], 4e-6)
        opacity = torch.tensor([[warmup.WARM_UP_OPACITY_LOGIT]])
        close(opacity, z["opacity_logit"], 1e-6)
        r = avatar.atlas.resolution
        picture = torch.zeros(r, r, 3)
        iu, iv = avatar.atlas.texels.T
        picture[r - 1 - iv, iu] = colours
        want, hit = z["texture_64_every4"], picture[::4, ::4].sum(-1) > 0
        close(picture[::4, ::4][hit], want[hit.numpy()], 1e-6)
        direction = torch.from_numpy(z["direction_in"])
        close(warmup.direction_to_quat(direction), z["direction_out"], 1e-6)


def _sha(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, np.float32).tobytes()).hexdigest()[:16]


def _turns(angles: np.ndarray) -> np.ndarray:
    """Angles brought to [-pi, pi): a difference of a whole turn is none."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


def _matrix(pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return dq.to_matrix(*pair)[0]


def _texel_matrix(atlas, mesh) -> torch.Tensor:
    from ash_core.geometry.texels import texel_transforms

    return dq.to_matrix(*texel_transforms(atlas, mesh.real, mesh.dual))
