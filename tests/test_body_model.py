"""Body model files: what is read of them, and one clear line for each fault."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_body import made_joints, write_body_model

from ash_core.errors import InputError
from ash_core.files.body_model import find_body_model, read_body_model
from ash_core.files.body_poses import BODY_JOINTS, BodyKind

KINDS: tuple[BodyKind, ...] = ("smpl", "smplh", "smplx")
COUNT = 2000
"""Vertices of the files here."""


def content_of(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of SMPL-X. Not to be spoiled."""
    return write_body_model(tmp_path_factory.mktemp("body") / "SMPLX_NEUTRAL.npz", vertices=COUNT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pickled", [False, True], ids=["npz", "pkl"])
def test_a_file_comes_back_as_it_is(kind: BodyKind, pickled: bool, tmp_path: Path) -> None:
    path = tmp_path / ("body.pkl" if pickled else "body.npz")
    write_body_model(path, kind, vertices=COUNT, pickled=pickled)
    model = read_body_model(path)
    assert (model.kind, model.path) == (kind, path)
    assert len(model.template) == COUNT
    np.testing.assert_allclose(model.joints(model.template), made_joints(kind), atol=1e-9)
    np.testing.assert_allclose(model.weights.sum(1), 1.0, atol=1e-12)
    assert model.weights.shape == (COUNT, len(BODY_JOINTS[kind]))
    assert (model.hand_components is None) == (kind == "smpl")
    assert model.corner_uvs is None


@pytest.mark.parametrize(
    ("kind", "count", "expected"),
    [("smpl", 10, 10), ("smplh", 16, 16), ("smplx", 20, 10), ("smplx", 400, 300),
     ("smplx", 16, 16), ("smpl", 300, 300)],
)  # fmt: skip
def test_expressions_are_no_shapes(
    kind: BodyKind, count: int, expected: int, tmp_path: Path
) -> None:
    path = write_body_model(tmp_path / "a.npz", kind, vertices=COUNT, shapes=count)
    model = read_body_model(path)
    assert model.shape_dirs.shape == (COUNT, 3, expected)
    np.testing.assert_array_equal(model.shape_dirs, content_of(path)["shapedirs"][..., :expected])


def test_a_shape_moves_the_joints_with_the_surface(plain: Path) -> None:
    model = read_body_model(plain)
    betas = np.random.default_rng(0).normal(size=4)
    shaped = model.shaped(betas)
    expected = model.template + np.einsum("vkb,b->vk", model.shape_dirs[..., :4], betas)
    np.testing.assert_allclose(shaped, expected, atol=1e-12)
    longer = model.shaped(np.concatenate([betas, np.zeros(30)]))
    np.testing.assert_allclose(longer, expected, atol=1e-12)
    moved = model.joints(shaped) - model.joints(model.template)
    assert np.abs(moved).max() > 1e-3


def test_pose_shapes_are_not_read(tmp_path: Path) -> None:
    """They are most of a file: damage there is not even noticed."""
    path = write_body_model(tmp_path / "a.npz", vertices=COUNT, pose_shapes=True)
    data = bytearray(path.read_bytes())
    at = data.find(b"posedirs.npy") + 5000
    data[at : at + 64] = b"\xff" * 64
    path.write_bytes(data)
    assert read_body_model(path).kind == "smplx"


def test_texture_coordinates_are_those_of_the_corners(tmp_path: Path) -> None:
    path = write_body_model(tmp_path / "a.npz", vertices=COUNT, with_uvs=True)
    content = content_of(path)
    uvs = read_body_model(path).corner_uvs
    np.testing.assert_array_equal(uvs, content["vt"][content["ft"]])


@pytest.mark.parametrize("pickled", [False, True], ids=["npz", "pkl"])
@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"v_template": None}, "v_template"),
        ({"v_template": np.zeros((COUNT, 2))}, "[V, 3]"),
        ({"v_template": np.full((COUNT, 3), np.nan)}, "finite"),
        ({"v_template": np.full((COUNT, 3), 1e9)}, "below 1e6"),
        ({"shapedirs": np.zeros((COUNT - 1, 3, 10))}, f"[{COUNT}, 3, B]"),
        ({"shapedirs": np.zeros((COUNT, 3, 0))}, "directions"),
        ({"weights": np.zeros((COUNT, 55))}, "sum to 1"),
        ({"weights": np.ones((COUNT, 24))}, f"[{COUNT}, 55]"),
        ({"J_regressor": np.zeros((54, COUNT))}, f"[55, {COUNT}]"),
        ({"f": np.array([[0, 1, COUNT]])}, "indices 0 to"),
        ({"f": np.zeros((0, 3))}, "triangles"),
        ({"f": np.array([["a", "b", "c"]])}, "numbers"),
        ({"kintree_table": np.zeros((2, 16))}, "24, 52 or 55 joints"),
        ({"kintree_table": np.zeros((2, 55))}, "parents of smplx"),
        ({"hands_componentsl": np.zeros((45, 44))}, "[C, 45]"),
        ({"hands_componentsr": None}, "hands_componentsr"),
        ({"vt": np.zeros((3, 2)), "ft": np.zeros((1, 3))}, "as in f"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)  # fmt: skip
def test_a_fault_is_one_line_that_names_it(
    entries: dict[str, Any], words: str, pickled: bool, tmp_path: Path
) -> None:
    path = tmp_path / ("a.pkl" if pickled else "a.npz")
    wrong = dict(entries)
    regressor = wrong.pop("J_regressor", None) if pickled else None
    write_body_model(path, vertices=COUNT, pickled=pickled, **wrong)
    if regressor is not None:
        content = pickle.loads(write_plain_pickle(tmp_path))
        path.write_bytes(pickle.dumps(content | {"J_regressor": regressor}, 2))
    with pytest.raises(InputError) as caught:
        read_body_model(path)
    text = str(caught.value)
    assert str(path) in text
    assert words in text
    assert len(text.splitlines()) == 1


def write_plain_pickle(folder: Path) -> bytes:
    """A pickle without the classes of other packages."""
    content = content_of(write_body_model(folder / "plain.npz", vertices=COUNT))
    return pickle.dumps({key: value for key, value in content.items() if key != "bs_style"}, 2)


def pickled_objects(path: Path) -> None:
    content = content_of(path) | {"v_template": np.array({"a": 1}, object)}
    np.savez(path, **content)  # type: ignore[arg-type]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4000])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.find(b"v_template.npy") + 4000
    data[at] ^= 255
    path.write_bytes(data)


def huge(path: Path) -> None:
    """A header that says a petabyte; the numbers behind it are few."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head = members["v_template.npy"]
    text = f"({COUNT}, 3)".encode()
    assert text in head
    large = b"(99999999999999, 3)"
    members["v_template.npy"] = head.replace(
        text + b", }" + b" " * (len(large) - len(text)), large + b", }"
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def no_archive(path: Path) -> None:
    path.write_bytes(b"no archive")


def nothing(path: Path) -> None:
    path.unlink()


def other_ending(path: Path) -> None:
    path.rename(path.with_suffix(".safetensors"))


@pytest.mark.parametrize(
    "damage", [pickled_objects, cut, flipped, huge, no_archive, nothing, other_ending]
)
def test_a_damaged_file_is_one_line(
    damage: Callable[[Path], None], plain: Path, tmp_path: Path
) -> None:
    path = tmp_path / "SMPLX_NEUTRAL.npz"
    path.write_bytes(plain.read_bytes())
    damage(path)
    path = path if path.exists() or damage is nothing else path.with_suffix(".safetensors")
    with pytest.raises(InputError) as caught:
        read_body_model(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_pickled_entries_that_nobody_needs_do_no_harm(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **content_of(plain), part2num=np.array({"head": 1}, object))
    assert read_body_model(path).kind == "smplx"


def test_of_a_folder_the_fullest_neutral_file_is_read(plain: Path, tmp_path: Path) -> None:
    names = ("smpl/SMPL_NEUTRAL.pkl", "smplx/SMPLX_MALE.npz", "smplx/SMPLX_NEUTRAL.pkl",
             "smplx/SMPLX_NEUTRAL.npz", "smplx/SMPLX_FEMALE.npz", "notes.npz")  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(plain.read_bytes())
    assert find_body_model(tmp_path) == tmp_path / "smplx" / "SMPLX_NEUTRAL.npz"
    assert read_body_model(tmp_path).path == tmp_path / "smplx" / "SMPLX_NEUTRAL.npz"
    assert find_body_model(tmp_path, "male") == tmp_path / "smplx" / "SMPLX_MALE.npz"
    assert find_body_model(tmp_path / "smplx", "female").name == "SMPLX_FEMALE.npz"


def test_of_a_folder_the_file_of_the_poses_kind_and_gender_is_read(
    plain: Path, tmp_path: Path
) -> None:
    names = ("smpl/SMPL_NEUTRAL.pkl", "smplx/SMPLX_MALE.npz", "smplx/SMPLX_NEUTRAL.npz")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(plain.read_bytes())
    assert find_body_model(tmp_path, "", "smpl") == tmp_path / "smpl" / "SMPL_NEUTRAL.pkl"
    assert find_body_model(tmp_path, "male", "smplx").name == "SMPLX_MALE.npz"
    assert find_body_model(tmp_path, "", "smplx").name == "SMPLX_NEUTRAL.npz"
    with pytest.raises(InputError, match=r"SMPLX_FEMALE\.npz, in the folder, found none"):
        find_body_model(tmp_path, "female", "smplx")
    with pytest.raises(InputError, match=r"SMPLH_NEUTRAL\.npz, in the folder, found none"):
        find_body_model(tmp_path, "", "smplh")


def test_a_folder_without_a_body_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SMPLX_NEUTRAL"):
        read_body_model(tmp_path)
