"""Importing the published layout: which file is which, what is missing, what is refused."""

import os
import pickle
import shutil
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import ToyFiles, copy_toy, make_toy_character, toy_skeleton, toy_texture

from ash_core.errors import InputError
from ash_core.files.checkpoint import read_checkpoint
from ash_core.files.checks import network_shapes
from ash_core.files.conf import read_conf
from ash_core.files.obj import read_obj, write_obj
from ash_core.files.released import import_ash
from ash_core.files.skeletool import write_motion, write_skeleton

NO_NETWORKS = [
    "no Gaussian checkpoint (gaussian_checkpoints.tar): untrained, it shows its texture",
    "no character checkpoint (deformable_character_checkpoint.pth): the deformation is zero",
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> ToyFiles:
    return make_toy_character(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def toy(original: ToyFiles, tmp_path: Path) -> ToyFiles:
    return copy_toy(original, tmp_path / "toy")


def some_networks() -> dict[str, dict[str, Tensor]]:
    """Make the toy's four published networks; each tensor its own constant."""
    return {
        name: {key: torch.full(shape, 0.01 * n) for n, (key, shape) in enumerate(keys.items())}
        for name, keys in network_shapes(58, 18).items()
    }


def save_networks(folder: Path) -> dict[str, dict[str, Tensor]]:
    networks = some_networks()
    graph = {name: networks[name] for name in ("spatial_gcn", "delta_gcn")}
    torch.save(graph, folder / "deformable_character_checkpoint.pth")
    unets = {name: networks[name] for name in ("unet_geometry", "unet_appearance")}
    extra = {"optimizer": {"state": {}, "param_groups": []}, "iter_step": 300}
    torch.save({**unets, **extra}, folder / "gaussian_checkpoints.tar")
    return networks


# ---- what is found ----


def test_the_published_sample_as_it_lies(reference: Path) -> None:
    data, notes = import_ash(reference / "ddc_sample")
    looked = "found by looking, without a configuration: ddc.character, ddc_graph.obj, hand_segm"
    assert looked in notes[0]
    assert notes[1:] == ["no cameras.json: the avatar brings no cameras", *NO_NETWORKS]
    assert (data.name, data.variant, data.atlas_resolution) == ("ddc_sample", "native", 256)
    want = np.load(reference / "golden" / "02_mesh.npz")
    texture = data.template.texture[::32, ::32] / 255
    np.testing.assert_allclose(texture, want["tex_rgb_every32"], atol=1e-6)
    vertices = data.template.vertices[::16] * 1000
    np.testing.assert_allclose(vertices, want["verts_mm_every16"], atol=2e-4)
    want = np.load(reference / "golden" / "01_skeleton.npz")
    np.testing.assert_array_equal(data.rest_dofs, want["rest_dof"])
    assert data.hand_mask is not None
    assert int(data.hand_mask.sum()) == 374


def test_a_folder_a_character_and_a_conf_agree(toy: ToyFiles) -> None:
    by_folder, notes = import_ash(toy.folder)
    assert notes == NO_NETWORKS
    by_character, _ = import_ash(toy.entry)
    by_conf, _ = import_ash(toy.conf)
    assert (by_folder.atlas_resolution, by_conf.atlas_resolution) == (64, 64)
    assert (by_folder.name, by_conf.name) == ("toy", "toy")
    for data in (by_folder, by_character, by_conf):
        assert torch.equal(data.template.texture, toy_texture())
        assert torch.equal(data.template.vertices, by_folder.template.vertices)
        assert len(data.cameras) == 2
        assert data.hand_mask is not None
        assert data.root_translation.tolist() == [0, 0, 0]


def test_the_graph_networks_alone_leave_it_native(toy: ToyFiles) -> None:
    networks = some_networks()
    graph = {name: networks[name] for name in ("spatial_gcn", "delta_gcn")}
    torch.save(graph, toy.folder / "deformable_character_checkpoint.pth")
    data, notes = import_ash(toy.entry)
    assert (data.variant, notes) == ("native", NO_NETWORKS[:1])
    assert sorted(data.networks) == ["delta_gcn", "spatial_gcn"]


def test_networks_make_it_released(toy: ToyFiles) -> None:
    networks = save_networks(toy.folder)
    data, notes = import_ash(toy.entry)
    assert data.variant == "released"
    assert notes == ["no real_translation.txt: the root translation is zero"]
    for name, state in networks.items():
        assert sorted(data.networks[name]) == sorted(state)
        for key, tensor in state.items():
            assert torch.equal(data.networks[name][key], tensor.to(data.networks[name][key].dtype))


def test_a_root_translation_is_read(toy: ToyFiles) -> None:
    path = toy.folder / "real_translation.txt"
    path.write_text("0.0 -0.5 0.25\n")
    assert import_ash(toy.entry)[0].root_translation.tolist() == [0.0, -0.5, 0.25]
    for text in ("0 1", "0 1 x", "0 1 2 3", "nan 0 0"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"real_translation.txt:1: expected three"):
            import_ash(toy.entry)


def test_a_conf_far_from_its_data(toy: ToyFiles, tmp_path: Path) -> None:
    """Names that begin on another machine, a data folder beside the conf's own, other keys."""
    conf = tmp_path / "confs" / "subject" / "a.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(
        """
        data_dir = ./toy   # found from the conf's second parent
        dataset {
            skeletonDir = "/elsewhere/data/toy.skeleton"
            skin_file : "toy.skin"
            template = toy.obj, graphMesh = [ "toy_graph.obj" ]
            rest_pose = toy.rest.motion
            poses = ${data_dir}/motions/toy.motion
            tex_res = 128
            image_size = [ 1285, 940 ]
            checkpoint = /elsewhere/deformable_character_checkpoint.pth
        }
        """
    )
    data, notes = import_ash(conf)
    assert data.atlas_resolution == 128
    assert "(not there: dataset.checkpoint = '/elsewhere/deformable_character_" in notes[-1]
    assert len(data.cameras) == 2  # lies beside the mesh
    assert torch.equal(data.template.texture, toy_texture())


def test_no_conf_reads_other_files_or_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "secret.conf"
    secret.write_text("a = 1\n")
    conf = tmp_path / "a.conf"
    for text in (
        f'include "{secret}"',
        f'a {{ Include file("{secret}") }}',
        f'include required(file("{secret}"))',
        f'x = """\n# """\ninclude "{secret}"',
        'include url("http://localhost:1/a")',
    ):
        conf.write_text(text + "\n")
        with pytest.raises(InputError, match=r"a.conf: expected a configuration without include"):
            read_conf(conf)
    conf.write_text("a = ${HOME}\n")
    with pytest.raises(InputError, match=r"a.conf: expected a value of 'HOME' in this file"):
        read_conf(conf)


CONFS = {
    "open": ("a = {", r":1: expected HOCON"),
    "loop": ("a = ${b}\nb = ${a}\n", r": expected no circular substitution"),
    "self": ("a = ${a}\n", r": expected no circular substitution"),
    "strings": (
        'x0 = "0123456789"\n' + "".join(f"x{n + 1} = ${{x{n}}}${{x{n}}}\n" for n in range(40)),
        r": expected values of at most",
    ),
    "trees": (
        "x0 {}\n" + "".join(f"x{n + 1} {{ a = ${{x{n}}}, b = ${{x{n}}} }}\n" for n in range(40)),
        r": expected at most 4096 values",
    ),
    "brackets": ("{" * 40, r": expected at most 32 nested brackets"),
    "list": ("[1, 2]", r": expected keys and values, got a list"),
    "long": ("a = 1\n" * 5000, r": expected at most 4096 lines"),
    "empty": ("", r": expected skeleton .*looked at the keys \(none\)"),
}


@pytest.mark.parametrize("fault", CONFS)
@pytest.mark.timeout(20)
def test_bad_confs_are_named(tmp_path: Path, fault: str) -> None:
    text, message = CONFS[fault]
    (tmp_path / "a.conf").write_text(text)
    with pytest.raises(InputError, match=r"a.conf" + message):
        import_ash(tmp_path / "a.conf")


def test_missing_and_ambiguous_files_are_listed(toy: ToyFiles) -> None:
    toy.graph.unlink()
    with pytest.raises(InputError, match=r"toy.conf: expected embedded graph .*not there: model."):
        import_ash(toy.conf)
    with pytest.raises(InputError, match=r"toy.character: expected embedded graph \(\*graph"):
        import_ash(toy.entry)
    toy.character.skin.unlink()
    with pytest.raises(InputError, match=r"skinning .*not there: toy.character: skin = 'toy.skin'"):
        import_ash(toy.entry)


def test_two_files_for_one_role_are_refused(toy: ToyFiles) -> None:
    shutil.copy(toy.character.mesh, toy.folder / "other.obj")
    toy.conf.write_text(toy.conf.read_text() + "template = other.obj\n")
    with pytest.raises(InputError, match=r"one template mesh .*, got 2: template = 'other.obj'"):
        import_ash(toy.conf)
    shutil.copy(toy.graph, toy.folder / "graph_2.obj")
    with pytest.raises(InputError, match=r"expected one embedded graph .*, got 2: 'graph_2.obj'"):
        import_ash(toy.entry)


def test_folders_without_a_character_are_named(tmp_path: Path, toy: ToyFiles) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: expected a folder with one .character"):
        import_ash(tmp_path / "empty")
    toy.conf.unlink()
    shutil.copy(toy.entry, toy.folder / "second.character")
    with pytest.raises(InputError, match=r"expected one \*.character, got 2"):
        import_ash(toy.folder)
    with pytest.raises(InputError, match=r"expected a .conf, a .character or a folder"):
        import_ash(toy.character.mesh)
    with pytest.raises(InputError, match=r"no.conf: expected a file, found nothing there"):
        import_ash(tmp_path / "no.conf")


def test_a_graph_far_from_the_mesh_is_named(toy: ToyFiles) -> None:
    graph = read_obj(toy.graph, need_uvs=False)
    vertices = graph.vertices.clone()
    vertices[4] += torch.tensor([60.0, 0, 0])
    write_obj(toy.graph, replace(graph, vertices=vertices))
    message = r"toy_graph.obj: expected every graph vertex within 50 mm .* got vertex 5 at 60 mm"
    with pytest.raises(InputError, match=message):
        import_ash(toy.entry)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("hand_segmentation.txt", "0\n" * 57, r"expected 58 labels, one a vertex, got 57"),
        ("hand_segmentation.txt", "0\nx\n", r":2: expected a label, an integer, got 'x'"),
        ("toy.png", "not an image", r"toy.png: expected an image"),
        ("toy.obj.mtl", "newmtl material_0\nmap_Kd gone.png\n", None),
        ("cameras.json", "{}", r"cameras.json: expected 'frames'"),
        (
            "deformable_character_checkpoint.pth",
            "x",
            r"checkpoint.pth: expected a torch checkpoint",
        ),
    ],
)
def test_bad_companions_are_named(toy: ToyFiles, name: str, text: str, message: str | None) -> None:
    (toy.folder / name).write_text(text)
    if message is None:  # the image beside the mesh, with its name, takes over
        assert torch.equal(import_ash(toy.entry)[0].template.texture, toy_texture())
        toy.texture.unlink()
        message = r"toy.obj: expected a texture: .*gone.png"
    with pytest.raises(InputError, match=message):
        import_ash(toy.entry)


def test_texture_coordinates_outside_the_image_are_refused(toy: ToyFiles) -> None:
    mesh = read_obj(toy.character.mesh)
    assert mesh.corner_uvs is not None
    write_obj(toy.character.mesh, replace(mesh, corner_uvs=mesh.corner_uvs * 2), "toy.png")
    with pytest.raises(
        InputError, match=r"toy.obj: template.corner_uvs: expected texture coordinates in 0 to 1"
    ):
        import_ash(toy.entry)


def test_the_atlas_of_u_nets_can_be_halved_four_times(toy: ToyFiles) -> None:
    toy.conf.write_text(toy.conf.read_text().replace("= 64", "= 100"))
    assert import_ash(toy.conf)[0].atlas_resolution == 100
    (toy.folder / "gaussian_checkpoints.tar").write_text("never read")
    message = r"toy.conf: model.bary_resolution: expected a multiple of 16, .*U-Nets.* got 100"
    with pytest.raises(InputError, match=message):
        import_ash(toy.conf)


def test_a_skeleton_without_a_heading_is_refused(toy: ToyFiles) -> None:
    skeleton = toy_skeleton()
    write_skeleton(
        toy.character.skeleton,
        replace(
            skeleton,
            dof_names=skeleton.dof_names[:3],
            dof_limits=skeleton.dof_limits[:3],
            dof_matrix=skeleton.dof_matrix[:, :3],
        ),
    )
    write_motion(toy.character.pose, torch.zeros(1, 3, dtype=torch.float64))
    with pytest.raises(InputError, match=r"expected at least 4 dofs, three of translation"):
        import_ash(toy.entry)


def test_names_that_the_system_refuses(toy: ToyFiles, tmp_path: Path) -> None:
    long = "a" * 300
    for name in (long, f"{long}.conf", f"{long}.character", "\0.conf"):
        with pytest.raises(InputError):
            import_ash(tmp_path / name)
    toy.conf.write_text(toy.conf.read_text().replace("toy.png", f"{long}.png"))
    with pytest.raises(InputError, match=r"toy.conf: expected texture image \(not there: model.t"):
        import_ash(toy.conf)
    (toy.folder / "loop.character").symlink_to("loop.character")
    toy.conf.write_text(toy.conf.read_text().replace(f"{long}.png", "toy.png"))
    toy.conf.write_text(toy.conf.read_text().replace("toy.character", "gone.character"))
    with pytest.raises(InputError, match=r"expected .character \(not there: general.character_fil"):
        import_ash(toy.conf)


# ---- checkpoints ----

VARIANCE = "a.running_var"
WANTED = {"net": {"a.weight": (2, 3), "a.bias": (2,), VARIANCE: (1,), "b.num_batches_tracked": ()}}


def good_state() -> dict[str, Any]:
    bias = torch.zeros(2, dtype=torch.float16)
    return {"a.weight": torch.randn(2, 3), "a.bias": bias, VARIANCE: torch.ones(1)}


def test_checkpoints_are_read(tmp_path: Path) -> None:
    state = good_state()
    path = tmp_path / "a.tar"
    for legacy in (False, True):
        content = {"net": state, "iter_step": 3, "optimizer": {"lr": 1e-4}}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        got = read_checkpoint(path, WANTED)
        assert list(got) == ["net"]
        assert torch.equal(got["net"]["a.weight"], state["a.weight"])
        assert got["net"]["a.bias"].dtype == torch.float32
    parallel = {f"module.{key}": value for key, value in state.items()}
    torch.save({"net": parallel | {"module.c.num_batches_tracked": torch.tensor(3)}}, path)
    assert sorted(read_checkpoint(path, WANTED)["net"]) == ["a.bias", VARIANCE, "a.weight"]


STATES = {
    "missing": ({"a.bias": None}, r"net: expected its 4 tensors; 1 missing: a.bias"),
    "extra": ({"c": torch.zeros(1)}, r"1 extra: c"),
    "misshapen": (
        {"a.weight": torch.zeros(3, 2)},
        r"1 misshapen: a.weight is \[3, 2\], .*\[2, 3",
    ),
    "NaN": ({"a.bias": torch.tensor([0.0, torch.nan])}, r"NaN or infinity in a.bias"),
    "overflow": ({"a.bias": torch.tensor([1e300, 0.0]).double() * 1e300}, r"infinity in a.bias"),
    "wide": ({"a.bias": torch.tensor([1e300, 0.0], dtype=torch.float64)}, r"infinity in a.bias"),
    "variance": (
        {VARIANCE: torch.tensor([-1.0])},
        r"expected variances of 0 or more, got -1 in a.running_var",
    ),
    "no tensor": (
        {"a.bias": [1.0, 2.0]},
        r"expected dense tensors, got something else in 'a.bias'",
    ),
    "sparse": ({"a.bias": torch.zeros(2).to_sparse()}, r"got something else in 'a.bias'"),
}


@pytest.mark.parametrize("fault", STATES)
def test_bad_states_are_listed(tmp_path: Path, fault: str) -> None:
    change, message = STATES[fault]
    state = {key: value for key, value in (good_state() | change).items() if value is not None}
    torch.save({"net": state}, tmp_path / "a.tar")
    with pytest.raises(InputError, match=r"a.tar: .*" + message):
        read_checkpoint(tmp_path / "a.tar", WANTED)


def test_a_small_file_asks_for_little_memory(tmp_path: Path) -> None:
    """Tensors with strides of 0 store one number, and would grow when they are copied."""
    path, wanted = tmp_path / "a.tar", {"net": {"a": (10_000, 10_000)}}
    for legacy in (False, True):
        expanded = {"net": {"a": torch.zeros(1).expand(10_000, 10_000)}}
        torch.save(expanded, path, _use_new_zipfile_serialization=not legacy)
        assert path.stat().st_size < 10_000
        with pytest.raises(InputError, match=r"expected dense tensors, .* in 'a'"):
            read_checkpoint(path, wanted)
    whole = torch.arange(12.0)
    torch.save({"net": {"a": whole[3:9].view(3, 2).T}}, path)
    assert torch.equal(read_checkpoint(path, {"net": {"a": (2, 3)}})["net"]["a"][0], whole[3:9:2])


def test_many_faults_are_counted(toy: ToyFiles) -> None:
    state = some_networks()["spatial_gcn"]
    wrong = {f"x{n}": torch.zeros(1) for n in range(9)}
    torch.save(
        {"spatial_gcn": state | wrong, "delta_gcn": {}},
        toy.folder / "deformable_character_checkpoint.pth",
    )
    with pytest.raises(InputError, match=r"9 extra: x0, x1, x2, x3 and 5 more"):
        import_ash(toy.entry)


def test_other_checkpoints_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    torch.save({"other": {}, "net": 3}, path)
    with pytest.raises(InputError, match=r"expected net; missing net; got 'other', 'net'"):
        read_checkpoint(path, WANTED)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match=r"expected a dictionary of networks, got list"):
        read_checkpoint(path, WANTED)
    with pytest.raises(InputError, match=r"expected a checkpoint, found no file"):
        read_checkpoint(tmp_path, WANTED)


class Malicious:
    """Object whose unpickling would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path: Path, legacy: bool) -> None:
    path, trace = tmp_path / "a.tar", tmp_path / "trace"
    content = {"net": good_state(), "optimizer": Malicious(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"a.tar: .*pickled code \(\w+.mkdir\): refused, not run"):
        read_checkpoint(path, WANTED)
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=r"a.tar: expected"):
        read_checkpoint(path, WANTED)
    assert not trace.exists()


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    """A small file must not unpack to a large one."""
    torch.save({"net": good_state()}, tmp_path / "a.tar")
    with (
        zipfile.ZipFile(tmp_path / "a.tar") as archive,
        zipfile.ZipFile(tmp_path / "b.tar", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(InputError, match=r"b.tar: expected an archive as torch writes it"):
        read_checkpoint(tmp_path / "b.tar", WANTED)


def test_truncated_checkpoints_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    torch.save({"net": good_state()}, path)
    data = path.read_bytes()
    for kept in (0, 1, len(data) // 2, len(data) - 30, len(data) - 1):
        path.write_bytes(data[:kept])
        with pytest.raises(InputError, match=r"a.tar: expected"):
            read_checkpoint(path, WANTED)
    path.write_bytes(struct.pack("<Q", 1 << 60) + data)
    with pytest.raises(InputError, match=r"a.tar: expected"):
        read_checkpoint(path, WANTED)
