"""Kinematics, motion windows, the embedded graph, texels and cameras: laws on the toy character."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from toy import make_toy_character

from ash_core.avatar import Avatar, NativeAvatar
from ash_core.character import Character
from ash_core.conventions import SH_C0, SH_C1, SH_C2
from ash_core.errors import InputError
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.geometry.camera import camera_from_fov, camera_position, look_at, resize_camera
from ash_core.geometry.embedded_graph import build_links
from ash_core.geometry.kinematics import joint_transforms, local_transforms
from ash_core.geometry.mesh import hop_distances, vertex_adjacency
from ash_core.geometry.motion import (
    heading_joint,
    heading_matrix,
    live_window,
    normalise_poses,
    pose_keys,
    pose_window,
)
from ash_core.geometry.rotations import matrix_to_quat, quat_to_matrix, unit
from ash_core.geometry.spherical_harmonics import rotate_sh
from ash_core.geometry.texels import build_atlas
from ash_core.networks import graph_net
from ash_core.records import AvatarData, GraphMesh, Motion, Template
from ash_core.render import Renderer, RenderRequest
from ash_core.variants import NATIVE, RELEASED


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[AvatarData, Motion]:
    files = make_toy_character(tmp_path_factory.mktemp("toy"))
    data, _ = import_ash(files.conf)
    return data, read_motion(files.motion, data.skeleton)


def test_joints_are_the_product_of_the_joints_above_them(toy) -> None:
    data, motion = toy
    local = local_transforms(data.skeleton, motion.dofs[5])
    want = []
    for joint, parent in enumerate(data.skeleton.parents.tolist()):
        want.append(local[joint] if parent < 0 else want[parent] @ local[joint])
    assert_close(joint_transforms(data.skeleton, motion.dofs[5]), torch.stack(want))


def test_normalised_poses_do_not_know_where_they_happened(toy) -> None:
    data, motion = toy
    poses = motion.dofs[4:7].clone()
    moved = poses.clone()
    moved[:, 3] += 0.7
    turn = heading_matrix(torch.tensor([0, 0, 0, 0.7]).double(), data.skeleton)
    moved[:, :3] = poses[:, :3] @ turn.T + torch.tensor([3.0, 0.1, -2.0])
    assert_close(normalise_poses(moved, data.skeleton), normalise_poses(poses, data.skeleton))
    assert normalise_poses(poses, data.skeleton)[2, :4].abs().max() == 0


def test_windows_clamp_at_the_start_and_refuse_frames_that_are_not_there(toy) -> None:
    data, motion = toy
    window = pose_window(motion, 1, data.skeleton, data.history_offsets)
    assert_close(window.dofs, motion.dofs[[1, *[0] * (len(data.history_offsets.frames) - 1)]])
    published = pose_window(motion, 1, data.skeleton, RELEASED.history_offsets)
    assert_close(published.normalised[0], motion.dofs[[1, 1, 1]])
    assert window.normalised[0][:, :4].abs().max() < 0.2  # seen from the newest pose, as all others
    twice = Motion(motion.dofs.repeat_interleave(2, 0), fps=2 * motion.fps)
    for frame in (0, 7, 19):
        fast = pose_window(twice, 2 * frame, data.skeleton, data.history_offsets)
        slow = pose_window(motion, frame, data.skeleton, data.history_offsets)
        assert_close(fast.dofs, slow.dofs)
        assert_close(fast.normalised, slow.normalised)
    assert data.history_offsets == NATIVE.history_offsets
    long = Motion(motion.dofs.repeat(2, 1))
    for offsets, first in ((RELEASED.history_offsets, 33), (NATIVE.history_offsets, 3)):
        live = live_window(long.dofs[first:38], data.skeleton, offsets)
        played = pose_window(long, 37, data.skeleton, offsets)
        assert_close(played.dofs, long.dofs[[37 - offset for offset in offsets.frames]])
        assert_close(live.dofs, played.dofs)
        assert_close(live.normalised, played.normalised)
    with pytest.raises(InputError, match=r"expected a frame in 0..19, got 20"):
        pose_window(motion, 20, data.skeleton, data.history_offsets)


def test_a_pose_has_one_name_whichever_window_sees_it(toy) -> None:
    """Or it would be posed anew for each offset: exactly, in float64 too."""
    data, motion = toy
    for offsets in (NATIVE.history_offsets, RELEASED.history_offsets):
        names: dict[int, set[bytes]] = {}
        for frame in range(len(motion.dofs)):
            keys = pose_keys(pose_window(motion, frame, data.skeleton, offsets))
            for offset, key in zip(offsets.frames, keys, strict=True):
                names.setdefault(max(frame - offset, 0), set()).add(key)
        assert [len(of_frame) for of_frame in names.values()] == [1] * len(motion.dofs)
        assert len(set.union(*names.values())) == len(motion.dofs)
    window = pose_window(motion, 9, data.skeleton, data.history_offsets)
    other = dataclasses.replace(window, normalised=window.normalised + 1e-9)
    assert not set(pose_keys(other)) & set(pose_keys(window))  # the past counts


def test_hops_are_breadth_first_distances() -> None:
    faces = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [6, 7, 8]])
    hops = hop_distances(vertex_adjacency(faces, 9), np.array([0, 6]), 3).toarray()
    assert hops.tolist() == [[1, 2, 2, 3, 3, 4, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 2, 2]]


def _strip(length: int) -> torch.Tensor:
    """Triangles along a chain of `length` vertices."""
    return torch.tensor([[i, i + 1, i + 2] for i in range(length - 2)])


def test_vertices_far_from_every_node_reach_farther() -> None:
    n = 60  # two vertices a hop: the far end is 29 hops from the node at the start
    vertices = torch.stack((torch.arange(n) * 0.1, torch.zeros(n), torch.zeros(n)), -1)
    extra = torch.tensor([[9.0, 9, 9], [9.1, 9, 9], [9, 9.1, 9]])  # a part without a node
    faces = torch.cat((_strip(n), torch.tensor([[n, n + 1, n + 2]])))
    template = Template(
        torch.cat((vertices, extra)),
        faces,
        torch.zeros(len(faces), 3, 2).double(),
        torch.zeros(2, 2, 3, dtype=torch.uint8),
    )
    graph = GraphMesh(vertices[[0, 4]], torch.zeros(0, 3, dtype=torch.int64))
    links = build_links(template, graph)
    assert links.node_vertices.tolist() == [0, 4]
    sums = torch.zeros(n + 3).index_add(0, links.link_vertices, links.link_weights)
    assert_close(sums, torch.ones(n + 3))
    assert set(links.fallback_vertices.tolist()) == set(range(11, n + 3))
    assert (links.link_nodes[links.link_vertices >= n] == 1).all()


def test_long_parts_without_a_node_and_crowded_vertices_are_no_trouble() -> None:
    n = 300  # far beyond a byte's worth of hops
    line = torch.stack((torch.arange(n) * 0.1, torch.zeros(n), torch.zeros(n)), -1)
    angle = torch.arange(280) * (2 * math.pi / 280)
    rim = torch.stack((angle.cos(), angle.sin(), torch.full_like(angle, 9.0)), -1)
    pole = torch.tensor([[0.0, 0, 9]])
    first = 2 * n + 1
    fan = [[2 * n, first + i, first + (i + 1) % 280] for i in range(280)]
    faces = torch.cat((_strip(n), _strip(n) + n, torch.tensor(fan)))
    template = Template(
        torch.cat((line, line + torch.tensor([0, 5.0, 0]), pole, rim)),
        faces,
        torch.zeros(len(faces), 3, 2).double(),
        torch.zeros(2, 2, 3, dtype=torch.uint8),
    )
    graph = GraphMesh(torch.cat((line[:1], pole)), torch.zeros(0, 3, dtype=torch.int64))
    links = build_links(template, graph)
    assert links.node_vertices.tolist() == [0, 2 * n]
    counts = torch.bincount(links.link_vertices)
    assert (counts == 1).all()
    assert_close(links.link_weights, torch.ones(len(counts)))
    assert (links.link_nodes[2 * n :] == 1).all()


def test_two_nodes_never_share_a_vertex(toy) -> None:
    data, _ = toy
    doubled = GraphMesh(data.graph.vertices.repeat(2, 1), data.graph.faces)
    taken = build_links(data.template, doubled).node_vertices
    assert len(set(taken.tolist())) == len(taken)


def test_character_moves_with_its_root_and_keeps_its_history(toy) -> None:
    data, motion = toy
    character = Character(data)
    window = pose_window(motion, 9, data.skeleton, data.history_offsets)
    mesh = character(window)
    shift = torch.zeros_like(window.dofs)
    shift[:, :3] = torch.tensor([1.0, 2.0, 3.0])
    moved = character(dataclasses.replace(window, dofs=window.dofs + shift))
    assert_close(moved.vertices, mesh.vertices + shift[0, :3].float(), atol=2e-6, rtol=0)
    assert_close(moved.normals, mesh.normals, atol=1e-5, rtol=0)
    for k, offset in enumerate(data.history_offsets.frames):
        before = character(
            pose_window(motion, max(9 - offset, 0), data.skeleton, data.history_offsets)
        )
        assert_close(mesh.vertices[k], before.vertices[0])
    assert_close(
        mesh.normals.norm(dim=-1),
        torch.ones(len(data.history_offsets.frames), len(data.template.vertices)),
    )


def test_cached_poses_change_nothing(toy) -> None:
    data, motion = toy
    with torch.no_grad():
        warm = Character(data)
        for frame in range(20):
            mesh = warm(pose_window(motion, frame, data.skeleton, data.history_offsets))
            fresh = Character(data)(pose_window(motion, frame, data.skeleton, data.history_offsets))
            assert_close(mesh.vertices, fresh.vertices, atol=1e-6, rtol=0)


def test_gradients_reach_the_graph_networks_weights(toy) -> None:
    data, motion = toy
    networks = {}
    for name, n in (("spatial", len(data.graph.vertices)), ("delta", len(data.template.vertices))):
        torch.manual_seed(0)
        shapes = graph_net.expected_shapes(name, n)  # type: ignore[arg-type]
        networks[f"{name}_gcn"] = {
            k: torch.ones(s) if "running_var" in k else 0.1 * torch.rand(s)
            for k, s in shapes.items()
        }
    character = Character(dataclasses.replace(data, networks=networks))
    character(
        pose_window(motion, 9, data.skeleton, data.history_offsets)
    ).vertices.square().sum().backward()
    missing = [k for k, p in character.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing, missing


def test_a_change_of_weights_is_seen_at_once(toy) -> None:
    data, motion = toy
    avatar = Avatar.from_data(data, preset_name="cpu")
    assert isinstance(avatar, NativeAvatar)
    renderer = Renderer(avatar)
    window = pose_window(motion, 3, data.skeleton, data.history_offsets)
    before = renderer.gaussians(window)
    with torch.no_grad():
        avatar.decoder.head.bias += 0.5
    assert not torch.equal(renderer.gaussians(window).opacities, before.opacities)
    with pytest.raises(TypeError, match="float32"):
        avatar.half()


def test_degenerate_faces_have_finite_gradients() -> None:
    points = torch.zeros(3, 3, requires_grad=True)
    unit(points).sum().backward()
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()


def test_texture_coordinates_that_cover_the_atlas_many_times_are_refused(toy) -> None:
    data, _ = toy
    whole = torch.tensor([[0.0, 0], [1, 0], [0, 1]]).double()
    uvs = whole.expand(len(data.template.faces), 3, 2)
    with pytest.raises(InputError, match="cover the atlas about once"):
        build_atlas(dataclasses.replace(data.template, corner_uvs=uvs), 4096, published=False)


@pytest.mark.parametrize("published", [True, False])
def test_texels_interpolate_their_own_texture_coordinates(toy, published: bool) -> None:
    data, _ = toy
    atlas = build_atlas(data.template, 64, published=published)
    uv = data.template.corner_uvs[atlas.faces]
    at = (uv * atlas.barycentrics[..., None].double()).sum(1) * 64
    gap = (at - atlas.texels - (0 if published else 0.5)).norm(dim=-1)
    assert gap.max() <= (1e-4 if published else 0.75)
    assert_close(atlas.barycentrics.sum(-1), torch.ones(len(atlas.faces)))
    assert atlas.barycentrics.min() >= 0
    index = atlas.texels[:, 0] * 64 + atlas.texels[:, 1]
    assert (index.diff() > 0).all()


def test_an_untrained_avatar_shows_its_texture_and_is_closed(toy) -> None:
    data, motion = toy
    plain = torch.full_like(data.template.texture, 200)
    data = dataclasses.replace(data, template=dataclasses.replace(data.template, texture=plain))
    avatar = Avatar.from_data(data, preset_name="cpu")
    renderer = Renderer(avatar)
    for frame in (0, 7, 19):
        window = pose_window(motion, frame, data.skeleton, data.history_offsets)
        centre = renderer.gaussians(window).means.mean(0)
        for azimuth in range(0, 360, 60):
            angle = math.radians(azimuth)
            eye = centre + 2.5 * torch.tensor([math.cos(angle), math.sin(angle), 0.2])
            camera = camera_from_fov(look_at(eye, centre), 0.6, 96, 128)
            image = renderer.render(RenderRequest(window, camera, None))
            solid = image.alpha > 0.5
            inner = -torch.nn.functional.max_pool2d(-solid[None].float(), 9, 1, 4)[0] > 0
            assert inner.sum() > 50
            assert image.alpha[inner].min() > 0.97, (frame, azimuth)
            assert (image.rgb[inner] - 200 / 255).abs().max() < 0.02


def test_native_gaussians_turn_with_the_character(toy) -> None:
    """The same pose seen from its own heading is the same avatar, colours included."""
    data, motion = toy
    avatar = Avatar.from_data(data, preset_name="cpu")
    assert isinstance(avatar, NativeAvatar)
    torch.nn.init.normal_(avatar.decoder.head.weight, std=0.05)
    still = Motion(motion.dofs[[9]].repeat(5, 1))
    turned = still.dofs.clone()
    turned[:, 3] += 1.1
    with torch.no_grad():
        a = avatar(pose_window(still, 4, data.skeleton, data.history_offsets))
        b = avatar(pose_window(Motion(turned), 4, data.skeleton, data.history_offsets))
    body_turn = heading_matrix(torch.tensor([0, 0, 0, 1.1]).double(), data.skeleton).float()
    turn = avatar._world @ body_turn @ avatar._world.T
    joints = avatar.character(pose_window(still, 4, data.skeleton, data.history_offsets)).joints
    joint = joints[heading_joint(data.skeleton)] @ avatar._world.T
    assert_close(b.means - joint, (a.means - joint) @ turn.T, atol=2e-4, rtol=0)
    assert_close(quat_to_matrix(b.quats), turn @ quat_to_matrix(a.quats), atol=2e-3, rtol=0)
    assert_close(b.sh, rotate_sh(a.sh, turn.expand(len(a.sh), 3, 3)), atol=2e-3, rtol=0)
    assert_close(b.scales, a.scales, atol=1e-5, rtol=1e-2)


def test_rotated_sh_is_the_same_colour_seen_from_the_turned_direction() -> None:
    torch.manual_seed(0)
    rotation = quat_to_matrix(torch.nn.functional.normalize(torch.randn(20, 4).double(), dim=-1))
    sh, d = torch.randn(20, 9, 3).double(), torch.randn(20, 3).double()
    d = torch.nn.functional.normalize(d, dim=-1)

    def colour(sh: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        x, y, z = d.unbind(-1)
        c = SH_C2
        basis = torch.stack(
            (
                torch.full_like(x, SH_C0),
                *(SH_C1 * v for v in (-y, z, -x)),
                *(c[0] * x * y, c[1] * y * z, c[2] * (2 * z * z - x * x - y * y)),
                *(c[3] * x * z, c[4] * (x * x - y * y)),
            ),
            -1,
        )
        return (basis[..., None] * sh).sum(1)

    turned = (rotation @ d[..., None])[..., 0]
    for bases in (1, 4, 9):
        part = torch.zeros_like(sh)
        part[:, :bases] = sh[:, :bases]
        got = torch.zeros_like(sh)
        got[:, :bases] = rotate_sh(sh[:, :bases], rotation)
        assert_close(colour(got, turned), colour(part, d))


def test_cameras_look_where_they_are_told() -> None:
    eye, target = torch.tensor([3.0, -2.0, 1.5]), torch.tensor([0.2, 0.1, 1.0])
    camera = camera_from_fov(look_at(eye, target), math.radians(40), 640, 480)
    assert_close(camera_position(camera.viewmat), eye)
    seen = camera.viewmat[:3, :3] @ target + camera.viewmat[:3, 3]
    pixel = camera.K @ (seen / seen[2])
    assert_close(pixel[:2], torch.tensor([320.0, 240.0]), atol=1e-3, rtol=0)
    above = target + torch.tensor([0.0, 0, 0.1])
    higher = camera.viewmat[:3, :3] @ above + camera.viewmat[:3, 3]
    assert higher[1] < seen[1]  # +Y is down
    assert torch.linalg.det(camera.viewmat[:3, :3]) > 0.99
    assert torch.isfinite(look_at(torch.tensor([0.0, 0, 3]), torch.zeros(3))).all()
    with pytest.raises(InputError, match="apart"):
        look_at(eye, eye)
    doubled = resize_camera(camera, 1280, 960)
    assert_close(doubled.K[:2], 2 * camera.K[:2])
    wide = resize_camera(camera, 1280, 480)
    assert_close(wide.K[0, 2], torch.tensor(640.0))


def test_a_still_pose_is_decoded_once(toy) -> None:
    data, motion = toy
    renderer = Renderer(Avatar.from_data(data, preset_name="cpu"))
    camera = camera_from_fov(look_at(torch.tensor([3.0, 0, 1]), torch.zeros(3)), 0.6, 32, 32)
    window = pose_window(motion, 3, data.skeleton, data.history_offsets)
    renderer.render(RenderRequest(window, camera, (1, 1, 1)))
    assert "decode" in renderer.timings
    renderer.render(
        RenderRequest(
            pose_window(motion, 3, data.skeleton, data.history_offsets), camera, (1, 1, 1)
        )
    )
    assert set(renderer.timings) == {"raster"}


def test_presets_belong_to_untrained_native_avatars(toy) -> None:
    data, _ = toy
    trained = Avatar.from_data(data, preset_name="cpu")
    assert isinstance(trained, NativeAvatar)
    state = dict(trained.decoder.state_dict())
    stored = dataclasses.replace(
        data,
        networks={"decoder": state},
        decoder=dataclasses.asdict(trained.config),
    )
    assert Avatar.from_data(stored).atlas.resolution == 128
    with pytest.raises(InputError, match="preset"):
        Avatar.from_data(stored, preset_name="quality")
    with pytest.raises(InputError, match="expected one of cpu, light, balanced, quality"):
        Avatar.from_data(data, preset_name="best")
    assert matrix_to_quat(torch.eye(3)).tolist() == [1, 0, 0, 0]
