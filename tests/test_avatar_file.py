"""The avatar file: round trips, whole-or-nothing writing, and hostile files."""

import dataclasses
import errno
import json
import os
import resource
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from toy import ToyFiles, make_toy_character

from ash_core.avatar import Avatar
from ash_core.cloth.model import build_model, store_model
from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.files.checks import check_avatar, network_shapes
from ash_core.files.image import encode_png
from ash_core.files.io import write_atomic, write_text
from ash_core.files.released import import_ash
from ash_core.networks.decoder import PRESETS, Decoder, DecoderConfig
from ash_core.records import AvatarData
from ash_core.variants import RELEASED


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyFiles:
    return make_toy_character(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def avatar(toy: ToyFiles) -> AvatarData:
    return import_ash(toy.entry)[0]


@pytest.fixture
def path(avatar: AvatarData, tmp_path: Path) -> Path:
    save_avatar(tmp_path / "a.safetensors", avatar)
    return tmp_path / "a.safetensors"


def assert_same(a: Any, b: Any) -> None:
    for field in dataclasses.fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, torch.Tensor):
            assert one.dtype == other.dtype, field.name
            assert torch.equal(one, other), field.name
        elif dataclasses.is_dataclass(one):
            assert_same(one, other)
        elif field.name == "cameras":
            assert len(one) == len(other)
            for camera, same in zip(one, other, strict=True):
                assert_same(camera, same)
        elif field.name == "networks":
            assert {n: sorted(s) for n, s in one.items()} == {
                n: sorted(s) for n, s in other.items()
            }
            assert all(torch.equal(t, other[n][k]) for n, s in one.items() for k, t in s.items())
        else:
            assert one == other, field.name


def test_round_trip(avatar: AvatarData, path: Path) -> None:
    assert_same(avatar, load_avatar(path))
    bare = dataclasses.replace(avatar, hand_mask=None, cameras=(), name="naïve ☃")
    save_avatar(path, bare)
    assert_same(bare, load_avatar(path))


def test_round_trip_of_graph_networks(avatar: AvatarData, tmp_path: Path) -> None:
    shapes = network_shapes(58, 18)
    networks = {
        name: {key: torch.rand(shape) for key, shape in shapes[name].items() if shape}
        for name in ("spatial_gcn", "delta_gcn")
    }
    data = dataclasses.replace(avatar, networks=networks)
    save_avatar(tmp_path / "b.safetensors", data)
    assert_same(data, load_avatar(tmp_path / "b.safetensors"))


def test_round_trip_of_a_trained_avatar(avatar: AvatarData, tmp_path: Path) -> None:
    config = PRESETS["cpu"]
    data = dataclasses.replace(
        avatar,
        decoder=dataclasses.asdict(config),
        networks={"decoder": dict(Decoder(config).state_dict())},
    )
    save_avatar(tmp_path / "c.safetensors", data)
    assert_same(data, load_avatar(tmp_path / "c.safetensors"))
    wrong = dataclasses.replace(data, decoder={**data.decoder, "width": 8})
    with pytest.raises(InputError, match=r"decoder: expected its .* misshapen"):
        save_avatar(tmp_path / "c.safetensors", wrong)
    wrong = dataclasses.replace(data, decoder={"depth": 8})
    with pytest.raises(InputError, match=r"decoder: expected settings atlas, width, sh_degree"):
        save_avatar(tmp_path / "c.safetensors", wrong)


def test_round_trip_of_the_published_sample(reference: Path, tmp_path: Path) -> None:
    data, _ = import_ash(reference / "ddc_sample")
    save_avatar(tmp_path / "d.safetensors", data)
    assert_same(data, load_avatar(tmp_path / "d.safetensors"))
    assert (tmp_path / "d.safetensors").stat().st_size < 3e6


# ---- what is refused ----


def rewrite(
    path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], object]
) -> None:
    """Change the tensors and the metadata of an avatar file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    tensors, values = load(data), json.loads(metadata["avatar"])
    content = {**metadata, "values": values}
    change(tensors, content)
    values = content.pop("values")
    text = values if isinstance(values, str) else json.dumps(values)
    path.write_bytes(save(tensors, {**content, "avatar": text}))


def tensor(name: str, index: Any, value: float) -> Any:
    def change(tensors: dict[str, torch.Tensor], _: Any) -> None:
        tensors[name][index] = value

    return change


def replaced(name: str, of: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return lambda tensors, _: tensors.update({name: of(tensors[name]).contiguous()})


def value(name: str, new: Any) -> Any:
    return lambda _, content: content["values"].update({name: new})


CONTENTS = {
    "format": (lambda t, c: c.update(format="x"), r"expected the format 'ash-studio avatar'"),
    "version": (lambda t, c: c.update(version="7"), r"expected avatar version 4 or older, got '7'"),
    "released, version 1": (  # its three poses fit
        lambda t, c: (c.update(version="1"), c["values"].update(variant="released")),
        r"networks: expected unet_geometry and unet_appearance of a released avatar, got none",
    ),
    "few poses": (
        value("history_offsets.frames", [0, 1, 2]),
        r"history_offsets: expected 5 frames that rise from 0 to at most 1000, got '\(0, 1, 2\)'",
    ),
    "no newest pose": (value("history_offsets.frames", [1, 2, 3, 4, 5]), r"rise from 0"),
    "falling history": (value("history_offsets.frames", [0, 4, 4, 8, 16]), r"rise from 0"),
    "long history": (value("history_offsets.frames", [0, 1, 2, 3, 10**9]), r"at most 1000"),
    "fractions": (
        value("history_offsets.frames", [0, 1.5, 2, 3, 4]),
        r"history_offsets.frames: expected a list of integers",
    ),
    "no history": (value("history_offsets.frames", None), r"expected list, got nothing"),
    "frame rate": (
        value("history_offsets.fps", float("nan")),
        r"history_offsets: expected a frame rate up to 1000.0 Hz, got nan",
    ),
    "no JSON": (lambda t, c: c.update(values="{"), r"expected JSON metadata 'avatar'"),
    "deep JSON": (lambda t, c: c.update(values="[" * 200000), r"expected JSON metadata"),
    "list": (lambda t, c: c.update(values="[]"), r"to be a JSON object"),
    "no name": (value("name", None), r"name: expected str, got nothing"),
    "bool": (value("atlas_resolution", True), r"atlas_resolution: expected int, got 'True'"),
    "atlas": (value("atlas_resolution", 10**9), r"expected 16 to 4096, got 1000000000"),
    "variant": (value("variant", "x"), r"variant: expected native or released, got 'x'"),
    "released": (value("variant", "released"), r"history_offsets: expected 3 frames that rise"),
    "names": (value("skeleton.joint_names", [1] * 9), r"expected a list of names"),
    "few names": (value("skeleton.joint_names", ["a"]), r"skeleton.parents: expected 1 joints"),
    "same names": (value("skeleton.joint_names", ["a"] * 9), r"expected different names"),
    "cameras": (value("cameras", 10**9), r"cameras: expected up to 4096"),
    "camera": (value("cameras", 3), r"expected a tensor cameras.2.viewmat, found none"),
    "settings": (value("decoder", {"a": 1.5}), r"decoder: expected settings that are integers"),
    "wide": (
        value("decoder", {"atlas": 128, "width": 10**6, "sh_degree": 1}),
        r"decoder: expected a width of 1 to 256",
    ),
    "large": (
        value("decoder", {"atlas": 4096, "width": 256, "sh_degree": 1}),
        r"decoder: expected atlas\^2 \* width of at most 67108864",
    ),
    "large and narrow": (
        value("decoder", {"atlas": 4096, "width": 1, "sh_degree": 1}),
        r"decoder: expected atlas\^2 \* width of at most 67108864",
    ),
    "extra": (lambda t, c: t.update(x=torch.zeros(1)), r"expected no other tensors, got 1: 'x'"),
    "missing": (lambda t, c: t.pop("skeleton.axes"), r"expected a tensor skeleton.axes"),
    "type": (replaced("skeleton.axes", torch.Tensor.double), r"'skeleton.axes': expected F32 of 2"),
    "dimensions": (replaced("skeleton.axes", torch.Tensor.flatten), r"expected F32 of 2 dim"),
    "shape": (
        replaced("skeleton.axes", lambda t: t[:4]),
        r"skeleton.axes: expected \[J, 3\] with 9 \(J as in skeleton.parents\), got \[4, 3\]",
    ),
    "empty": (replaced("template.faces", lambda t: t[:0]), r"expected \[F, 3, 2\] with 0"),
    "NaN": (tensor("rest_dofs", 0, torch.nan), r"rest_dofs: expected finite numbers"),
    "limits": (tensor("skeleton.dof_limits", 0, torch.nan), r"dof_limits: expected finite numbers"),
    "order": (tensor("skeleton.dof_limits", (7, 0), 9.0), r"dof_limits: expected low <= high"),
    "root": (tensor("skeleton.parents", 0, 0), r"parents: expected -1 for the first joint"),
    "parents": (tensor("skeleton.parents", 4, 4), r"expected every other joint's parent before"),
    "axes": (tensor("skeleton.axes", (2, 2), 2.0), r"axes: expected unit axes"),
    "joints": (tensor("skinning.bone_joints", 0, 99), r"bone_joints: expected 0 to 8, got 7 to 99"),
    "bones": (tensor("skinning.bones", 0, -1), r"bones: expected 0 to 2, got -1 to 2"),
    "weights": (tensor("skinning.weights", 0, 0.3), r"weights: expected sums of 1"),
    "negative": (
        lambda t, c: t["skinning.weights"][0].copy_(torch.tensor([1.2, -0.2])),
        r"weights: expected 0 or more, got -0.2",
    ),
    "faces": (tensor("template.faces", 0, 58), r"template.faces: expected 0 to 57"),
    "UVs": (tensor("template.corner_uvs", 0, 1.5), r"expected texture coordinates in 0 to 1"),
    "graph": (tensor("graph.faces", 0, 1 << 60), r"graph.faces: expected 0 to 17"),
    "image": (tensor("template.texture.png", 0, 0), r"template.texture: expected an image"),
    "viewmat": (tensor("cameras.1.viewmat", 0, 0.0), r"cameras\[1\]: expected a camera-from-world"),
    "K": (tensor("cameras.1.K", (0, 0), 0.0), r"cameras\[1\]: expected K"),
    "width": (value("cameras.0.width", 10**6), r"cameras\[0\]: expected an image of 1 to 16384"),
    "network": (
        lambda t, c: t.update({"networks.x.y": torch.zeros(1)}),
        r"networks: expected spatial_gcn, .*; got 'x'",
    ),
    "half": (
        lambda t, c: t.update({"networks.delta_gcn.y": torch.zeros(1)}),
        r"delta_gcn: expected its \d+ tensors; \d+ missing: .*; 1 extra: y",
    ),
}


@pytest.mark.parametrize("fault", CONTENTS)
def test_contents_that_do_not_fit_are_named(path: Path, fault: str) -> None:
    change, message = CONTENTS[fault]
    rewrite(path, change)
    with pytest.raises(InputError, match=r"a.safetensors: .*" + message):
        load_avatar(path)


# ---- cloth: the simulation indexes without checks ----


@pytest.fixture(scope="module")
def clothed(avatar: AvatarData) -> AvatarData:
    looseness = np.linspace(0.0, 0.9, len(avatar.template.vertices)).astype(np.float32)
    looseness[::3] = 0.0
    cloth = store_model(build_model(avatar, looseness, floor_m=0.0))
    return dataclasses.replace(avatar, cloth=cloth)


CLOTHS = {
    "points": (tensor("cloth.points", 0, 10**6), r"cloth.points: expected 0 to"),
    "same point": (tensor("cloth.points", 1, 0), r"cloth.points: expected different vertices"),
    "carriers": (tensor("cloth.carriers", 0, -1), r"cloth.carriers: expected 0 to"),
    "anchors": (tensor("cloth.anchors", 0, 10**6), r"cloth.anchors: expected 0 to"),
    "links": (tensor("cloth.links", (0, 1), 10**6), r"cloth.links: expected 0 to"),
    "a link to itself": (tensor("cloth.links", 0, 5), r"cloth.links: expected two different"),
    "falling colours": (tensor("cloth.colours", 1, 10**6), r"cloth.colours: expected 0 to"),
    "capsules": (tensor("cloth.capsules", (0, 0), -3), r"cloth.capsules: expected 0 to"),
    "spheres": (tensor("cloth.sphere_joints", 0, 10**6), r"cloth.sphere_joints: expected 0 to"),
    "NaN": (tensor("cloth.lengths", 0, float("nan")), r"cloth.lengths: expected finite"),
    "looseness": (tensor("cloth.looseness", 0, 2.0), r"cloth.looseness: expected 0 to 1"),
    "a constant": (
        value("cloth.constants.air", float("inf")),
        r"cloth.constants.air: expected 0 to",
    ),
    "no stretch": (
        value("cloth.constants.stretch", 0.0),
        r"cloth.constants.stretch: expected more than 0",
    ),
    "no passes": (value("cloth.passes", 0), r"cloth.passes: expected 1 to 16, got 0"),
    "half a pass": (value("cloth.passes", 0.5), r"cloth.passes: expected int, got .0.5"),
    "a part": (lambda t, c: t.pop("cloth.links"), r"expected a tensor cloth.links, found none"),
}


@pytest.mark.parametrize("fault", CLOTHS)
def test_cloth_that_does_not_fit_is_named(clothed: AvatarData, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_avatar(path, clothed)
    assert_same(clothed, load_avatar(path))
    change, message = CLOTHS[fault]
    rewrite(path, change)
    with pytest.raises(InputError, match=r"a.safetensors: .*" + message):
        load_avatar(path)


def test_cloth_of_version_3_has_one_pass(clothed: AvatarData, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert clothed.cloth is not None
    five = dataclasses.replace(clothed, cloth=dataclasses.replace(clothed.cloth, passes=5))
    save_avatar(path, five)
    assert_same(five, load_avatar(path))
    rewrite(path, lambda t, c: (c.update(version="3"), c["values"].pop("cloth.passes")))
    assert_same(clothed, load_avatar(path))


# ---- networks: what loads can run ----


@pytest.fixture(scope="module")
def trained(avatar: AvatarData) -> AvatarData:
    """Make the toy with graph networks, without counters, and the smallest decoder."""
    config = DecoderConfig(atlas=16, width=1, sh_degree=0)
    shapes = network_shapes(58, 18)
    networks = {
        name: {key: torch.zeros(shape) for key, shape in shapes[name].items() if shape}
        for name in ("spatial_gcn", "delta_gcn")
    }
    networks["decoder"] = dict(Decoder(config).state_dict())
    return dataclasses.replace(avatar, decoder=dataclasses.asdict(config), networks=networks)


STATES = {
    "earlier": (
        lambda t, c: c.update(version="1"),  # its decoders say how far back they see
        r"decoder: expected one that sees 32 frames back, got one of an earlier version; train it",
    ),
    "counter": (
        lambda t, c: t.update(
            {"networks.decoder.foo.num_batches_tracked": torch.zeros((), dtype=torch.int64)}
        ),
        r"decoder: expected its \d+ tensors; 1 extra: foo.num_batches_tracked",
    ),
    "extra": (
        lambda t, c: t.update({"networks.decoder.foo": torch.zeros(1)}),
        r"decoder: expected its \d+ tensors; 1 extra: foo",
    ),
    "missing": (lambda t, c: t.pop("networks.decoder.head.bias"), r"1 missing: head.bias"),
    "integers": (
        replaced("networks.decoder.head.bias", torch.Tensor.long),
        r"decoder: expected head.bias to be float32, got int64",
    ),
    "graph integers": (
        replaced("networks.delta_gcn.gcnn_0.bias", torch.Tensor.long),
        r"delta_gcn: expected gcnn_0.bias to be float32, got int64",
    ),
    "double": (
        replaced("networks.decoder.head.bias", torch.Tensor.double),
        r"'networks.decoder.head.bias': expected F32 or I64, got F64",
    ),
}


@pytest.mark.parametrize("fault", STATES)
def test_networks_that_do_not_fit_are_named(
    trained: AvatarData, tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "a.safetensors"
    save_avatar(path, trained)
    Avatar.from_data(load_avatar(path))
    change, message = STATES[fault]
    rewrite(path, change)
    with pytest.raises(InputError, match=r"a.safetensors: .*" + message):
        Avatar.from_data(load_avatar(path))


def test_states_that_could_not_be_read_again_are_not_saved(
    trained: AvatarData, tmp_path: Path
) -> None:
    half = {key: tensor.half() for key, tensor in trained.networks["decoder"].items()}
    data = dataclasses.replace(trained, networks={**trained.networks, "decoder": half})
    with pytest.raises(InputError, match=r"decoder: expected .* to be float32, got float16"):
        save_avatar(tmp_path / "a.safetensors", data)


def released(avatar: AvatarData, resolution: int) -> AvatarData:
    """Make the toy with published networks that take no memory."""
    shapes = network_shapes(58, 18)
    networks = {
        name: {
            key: torch.zeros((), dtype=None if shape else torch.int64).expand(shape)
            for key, shape in shapes[name].items()
        }
        for name in ("unet_geometry", "unet_appearance")
    }
    return dataclasses.replace(
        avatar,
        variant="released",
        history_offsets=RELEASED.history_offsets,
        networks=networks,
        atlas_resolution=resolution,
    )


def test_a_released_atlas_can_be_halved_four_times(avatar: AvatarData) -> None:
    check_avatar(released(avatar, 240), "a")
    with pytest.raises(InputError, match=r"a: atlas_resolution: .*a multiple of 16, .* got 250"):
        check_avatar(released(avatar, 250), "a")
    check_avatar(dataclasses.replace(avatar, atlas_resolution=250), "a")  # has no U-Net


def test_counters_are_checked_too(avatar: AvatarData) -> None:
    data = released(avatar, 256)
    state = data.networks["unet_geometry"]
    counter = next(key for key in state if key.endswith("num_batches_tracked"))

    def check(state: dict[str, torch.Tensor]) -> None:
        networks = {**data.networks, "unet_geometry": state}
        check_avatar(dataclasses.replace(data, networks=networks), "a")

    check({key: tensor for key, tensor in state.items() if key != counter})
    with pytest.raises(InputError, match=r"num_batches_tracked to be int64, got float32"):
        check({**state, counter: torch.zeros(())})


@pytest.mark.parametrize("count", [1, 3])
def test_a_skeleton_needs_a_place_and_a_heading(avatar: AvatarData, count: int) -> None:
    skeleton = dataclasses.replace(
        avatar.skeleton,
        dof_names=avatar.skeleton.dof_names[:count],
        dof_limits=avatar.skeleton.dof_limits[:count],
        dof_matrix=avatar.skeleton.dof_matrix[:, :count],
    )
    data = dataclasses.replace(avatar, skeleton=skeleton, rest_dofs=avatar.rest_dofs[:count])
    with pytest.raises(InputError, match=rf"expected at least 4 dofs, .*heading, got {count}"):
        check_avatar(data, "a")


def test_every_preset_is_within_the_limits(avatar: AvatarData) -> None:
    for config in PRESETS.values():
        check_avatar(dataclasses.replace(avatar, decoder=dataclasses.asdict(config)), "a")


def test_a_stored_bool_is_zero_or_one(avatar: AvatarData, path: Path) -> None:
    assert avatar.hand_mask is not None
    rewrite(path, lambda t, _: t["hand_mask"].view(torch.uint8).mul_(7))
    got = load_avatar(path).hand_mask
    assert got is not None
    assert torch.equal(got.view(torch.uint8), avatar.hand_mask.view(torch.uint8))


def test_textures_that_unpack_too_large_are_refused(path: Path) -> None:
    png = encode_png(torch.zeros(1, 20000, 3, dtype=torch.uint8))
    packed = torch.frombuffer(bytearray(png), dtype=torch.uint8)
    rewrite(path, lambda t, _: t.update({"template.texture.png": packed}))
    with pytest.raises(InputError, match=r"template.texture: expected sides up to 16384 px"):
        load_avatar(path)


def with_header(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def entry(**change: Any) -> Callable[[dict[str, Any]], object]:
    return lambda header: header["skeleton.parents"].update(change)


HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda d: b"",
    "eight": lambda d: d[:8],
    "length lies": lambda d: struct.pack("<Q", 1 << 62) + d[8:],
    "length cut": lambda d: struct.pack("<Q", 30) + d[8:],
    "truncated": lambda d: d[:-1],
    "longer": lambda d: d + b"0",
    "zeros": lambda d: bytes(len(d)),
    "no JSON": lambda d: struct.pack("<Q", 4) + b"nope" + d,
    "deep": lambda d: struct.pack("<Q", 100000) + b"[" * 100000,
    "deep object": lambda d: struct.pack("<Q", 300000) + b'{"a":' * 60000,
    "huge shape": lambda d: with_header(d, entry(shape=[1 << 40])),
    "overflow": lambda d: with_header(d, entry(shape=[1 << 33, 1 << 33])),
    "negative": lambda d: with_header(d, entry(shape=[-9])),
    "past the end": lambda d: with_header(d, entry(data_offsets=[0, 1 << 50])),
    "overlap": lambda d: with_header(d, entry(data_offsets=[8, 80])),
    "backwards": lambda d: with_header(d, entry(data_offsets=[72, 0])),
    "type": lambda d: with_header(d, entry(dtype="PICKLE")),
}


@pytest.mark.parametrize("fault", HEADERS)
def test_hostile_headers_are_refused_quickly(path: Path, fault: str) -> None:
    path.write_bytes(HEADERS[fault](path.read_bytes()))
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"a.safetensors: expected an avatar file"):
        load_avatar(path)
    assert time.perf_counter() - start < 2.0


def test_other_files_are_named(tmp_path: Path, toy: ToyFiles) -> None:
    with pytest.raises(InputError, match=r"cannot be read: File name too long"):
        load_avatar(tmp_path / ("a" * 300 + ".safetensors"))
    with pytest.raises(InputError, match=r"no.safetensors: expected an avatar file, found no file"):
        load_avatar(tmp_path / "no.safetensors")
    with pytest.raises(InputError, match=r"expected an avatar file, found no file"):
        load_avatar(tmp_path)
    with pytest.raises(InputError, match=r"toy.obj: expected an avatar file"):
        load_avatar(toy.character.mesh)
    (tmp_path / "x.safetensors").write_bytes(save({"a": torch.zeros(3)}))
    with pytest.raises(InputError, match=r"expected the format 'ash-studio avatar', got 'none'"):
        load_avatar(tmp_path / "x.safetensors")


# ---- writing ----


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Limit files to 20 kB, like a full disk within one process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_text(path, "old")
    with pytest.raises(InputError, match=r"a.bin: cannot be written: File too large"):
        write_atomic(path, [b"x" * 15_000, b"y" * 15_000])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_no_space_is_named(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"x"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match=r"a.bin: cannot be written: No space left on device"):
        write_atomic(tmp_path / "a.bin", parts())
    assert os.listdir(tmp_path) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"x"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.bin", parts())
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_be_written_are_named(avatar: AvatarData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file" / "a.safetensors", Path("/proc/a.safetensors"), tmp_path):
        with pytest.raises(InputError, match=r"cannot be written"):
            save_avatar(target, avatar)
    with pytest.raises(InputError, match=r"/dev/full: cannot be written: a folder or a device"):
        save_avatar("/dev/full", avatar)
    if os.geteuid() != 0:  # root writes everywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(InputError, match=r"cannot be written: Permission denied"):
            save_avatar(tmp_path / "locked" / "a.safetensors", avatar)


def test_folders_are_made_and_links_kept(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "real.txt", "one")
    (tmp_path / "link.txt").symlink_to(tmp_path / "new" / "real.txt")
    write_text(tmp_path / "link.txt", "two")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "new" / "real.txt").read_text() == "two"
