"""Packed splats: files of splat-transform are read to the numbers they were made of.

tests/data/README.md says how the files were made.
"""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ash_core import cli
from ash_core.errors import InputError
from ash_core.files.image import read_image
from ash_core.files.splats import load_splats, read_splats, turn_splats
from ash_core.geometry.rotations import quat_to_matrix
from ash_core.records import Gaussians, Up

DATA = Path(__file__).parent / "data" / "splats"
PACKED = ("splats.compressed.ply", "splats.sog", "splats_v3.spz", "splats_v4.spz")


def covariances(g: Gaussians) -> Tensor:
    axes = quat_to_matrix(g.quats) * g.scales[:, None]
    return axes @ axes.transpose(1, 2)


def load(name: str, up: Up | None = None) -> Gaussians:
    if name.endswith("v4.spz"):
        pytest.importorskip("zstandard")
    return load_splats(DATA / name, up).gaussians


@pytest.mark.parametrize("name", PACKED)
def test_a_packed_file_shows_what_it_was_made_of(name: str) -> None:
    """Within the steps of each format; a .spz is Y up, the .ply that it was made of Y down."""
    want = load("splats.ply", "y-down")
    got = load(name, None if name.endswith("spz") else "y-down")
    nearest = torch.cdist(want.means, got.means).argmin(1)  # the writer sorts splats
    assert len(nearest.unique()) == len(want.means) == len(got.means)

    def error(a: Tensor, b: Tensor) -> float:
        return float((a - b[nearest]).abs().max())

    assert error(want.means, got.means) < 3e-3
    assert error(want.opacities, got.opacities) < 4e-3
    assert error(want.scales, got.scales) < 2e-3
    assert error(covariances(want), covariances(got)) < 2e-4
    assert error(want.sh[:, :1], got.sh[:, :1]) < 1.5e-2
    if not name.endswith("sog"):  # whose palette is smaller than so few splats
        assert error(want.sh, got.sh) < 0.1


def test_a_folder_of_sog_is_read_as_the_archive(tmp_path: Path) -> None:
    import zipfile

    zipfile.ZipFile(DATA / "splats.sog").extractall(tmp_path / "scene")
    want = load("splats.sog", "z")
    for path in (tmp_path / "scene", tmp_path / "scene" / "meta.json"):
        data = load_splats(path, "z")
        assert data.name == "scene"
        torch.testing.assert_close(data.gaussians.means, want.means)


@pytest.mark.parametrize("version", [1, 2])
def test_older_spz_is_read(tmp_path: Path, version: int) -> None:
    """Version 1 has half floats for positions, versions 1 and 2 a vector for a rotation."""
    if version == 1:
        positions = np.array([[0.5, -1, 2]], "<f2").tobytes()
    else:
        fixed = np.array([0.5, -1, 2]) * 4096
        positions = b"".join(struct.pack("<i", int(value))[:3] for value in fixed)
    body = positions + bytes([255, 128, 128, 128, 96, 112, 128, 255, 128, 128])
    head = struct.pack("<4sIIBBBB", b"NGSP", version, 1, 0, 12, 0, 0)
    (tmp_path / "a.spz").write_bytes(gzip.compress(head + body))
    g = read_splats(tmp_path / "a.spz").gaussians
    assert g.means[0].tolist() == [0.5, -1, 2]
    assert g.opacities[0] == 1.0
    assert g.scales[0].log().tolist() == pytest.approx([-4, -3, -2])
    assert g.quats[0].tolist() == pytest.approx([0, 1, 0, 0], abs=5e-3)


def test_a_file_that_announces_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    head = struct.pack("<4sIIBBBB", b"NGSP", 3, 4_000_000_000, 3, 12, 0, 0)
    (tmp_path / "a.spz").write_bytes(gzip.compress(head + bytes(99)))
    with pytest.raises(InputError, match="expected 260000000000 bytes"):
        read_splats(tmp_path / "a.spz")
    content = (DATA / "splats.compressed.ply").read_bytes()
    for old, new, text in (
        (b"chunk 1", b"chunk 0", "expected 1 chunks for 24 splats, got 0"),
        (b"min_r", b"low_r", ""),
        (b"min_x", b"low_x", "expected the bounds of a packed .ply"),
        (b"sh 24", b"sh 23", "expected 24 of f_rest_0"),
        (b"uint packed_scale", b"list uint uint packed_scale", "got lists"),
    ):
        assert old in content
        (tmp_path / "b.ply").write_bytes(content.replace(old, new, 1))
        if text:
            with pytest.raises(InputError, match=text):
                read_splats(tmp_path / "b.ply")
        else:  # older files have no bounds of colours
            read_splats(tmp_path / "b.ply")


def test_an_archive_of_a_later_zip_version_is_refused(tmp_path: Path) -> None:
    data = bytearray((DATA / "splats.sog").read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 195
    (tmp_path / "a.sog").write_bytes(data)
    with pytest.raises(
        InputError, match=r"a\.sog: expected a \.sog archive: zip file version 19\.5"
    ):
        read_splats(tmp_path / "a.sog")


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError, match=r"zstandard: .*pip install 'ash-studio\[splats\]'"):
        read_splats(DATA / "splats_v4.spz")


# ---- up axis ----


@pytest.mark.parametrize(
    ("up", "direction"), [("z", [0, 0, 1]), ("y", [0, 1, 0]), ("y-down", [0, -1, 0])]
)
def test_the_up_axis_of_the_file_points_up(up: Up, direction: list[float]) -> None:
    """Heights in the world are coordinates along that axis; shapes and lengths stay."""
    before, after = load("splats.ply", "z"), load("splats.ply", up)
    torch.testing.assert_close(after.means[:, 2], before.means @ torch.tensor(direction).float())
    torch.testing.assert_close(after.means.norm(dim=1), before.means.norm(dim=1))
    trace = covariances(after).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace, covariances(before).diagonal(dim1=1, dim2=2).sum(1))


def test_turning_again_gives_the_same_as_loading() -> None:
    data = load_splats(DATA / "splats.ply", "y")
    want = load("splats.ply", "y-down")
    got = turn_splats(data, "y-down")
    assert got.up == "y-down"
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(
            getattr(got.gaussians, name), getattr(want, name), atol=1e-5, rtol=0
        )
    torch.testing.assert_close(covariances(got.gaussians), covariances(want))


def test_an_up_axis_that_nothing_names_is_noted(tmp_path: Path) -> None:
    """Ours and nerfstudio's files name it in a comment."""
    content = (DATA / "splats.ply").read_bytes()
    assert b"comment Vertical Axis: z" in content
    (tmp_path / "a.ply").write_bytes(content.replace(b"comment Vertical Axis: z\n", b""))
    (tmp_path / "b.ply").write_bytes(content.replace(b"Vertical Axis: z", b"Vertical Axis: y"))
    assert "does not name its up axis" in load_splats(tmp_path / "a.ply").notes[0]
    assert load_splats(tmp_path / "a.ply", "z").notes == ()
    assert load_splats(tmp_path / "b.ply").up == "y"
    assert load_splats(DATA / "splats.ply").notes == ()


def test_render_turns_splats(tmp_path: Path) -> None:
    """A pillar along -Y stands upright once that axis points up."""
    from ash_core.files.ply import write_ply

    means = torch.zeros(60, 3)
    means[:, 1] = -torch.linspace(0, 1.7, 60)
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(60, 1)
    pillar = Gaussians(means, quats, torch.full((60, 3), 0.03), torch.full((60,), 0.95),
                       torch.full((60, 1, 3), -1.7))  # fmt: skip
    write_ply(tmp_path / "a.ply", pillar)
    heights = {}
    for up in ("z", "y-down"):
        out = tmp_path / f"{up}.png"
        command = ["render", str(tmp_path / "a.ply"), "-o", str(out), "--frames", "0"]
        assert cli.main([*command, "--size", "60x60", "--up", up]) == 0
        dark = read_image(out).float().mean(-1) < 128
        heights[up] = int(dark.any(1).sum())
    assert heights["y-down"] > 40
    assert heights["z"] < 20
