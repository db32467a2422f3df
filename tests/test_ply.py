"""The .ply of a frame: what another program reads is what was drawn."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ash_core import cli
from ash_core.drawable import StaticSplats
from ash_core.errors import InputError
from ash_core.files.image import read_image
from ash_core.files.ply import write_ply
from ash_core.files.splats import load_splats, read_splats
from ash_core.pose_windows import window_at
from ash_core.records import Gaussians
from ash_core.render import Renderer
from ash_core.scene.open import still_motion


def some(count: int = 50, colours: int = 16) -> Gaussians:
    torch.manual_seed(3)
    return Gaussians(
        means=torch.randn(count, 3),
        quats=torch.nn.functional.normalize(torch.randn(count, 4), dim=1),
        scales=torch.rand(count, 3) * 0.02 + 1e-4,
        opacities=torch.cat((torch.zeros(1), torch.ones(1), torch.rand(count - 2))),
        sh=torch.randn(count, colours, 3),
    )


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the file as any reader of the format does."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = head.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert lines.pop(2) == "comment Vertical Axis: z"
    names = [line.split()[-1] for line in lines if line.startswith("property float ")]
    count = int(lines[2].split()[-1])
    table = np.frombuffer(body, "<f4").reshape(count, len(names))
    return dict(zip(names, table.T, strict=True))


@pytest.mark.parametrize("colours", [1, 4, 9, 16])
def test_another_reader_gets_the_same_gaussians(tmp_path: Path, colours: int) -> None:
    g, out = some(colours=colours), tmp_path / "new" / "a.ply"
    write_ply(out, g)
    found = read(out)
    assert sum(name.startswith("f_rest_") for name in found) == 3 * (colours - 1)

    def columns(*names: str) -> torch.Tensor:
        return torch.tensor(np.stack([found[name] for name in names], 1))

    torch.testing.assert_close(columns("x", "y", "z"), g.means)
    torch.testing.assert_close(columns("scale_0", "scale_1", "scale_2").exp(), g.scales)
    torch.testing.assert_close(columns("rot_0", "rot_1", "rot_2", "rot_3"), g.quats)
    torch.testing.assert_close(
        columns("opacity")[:, 0].sigmoid(), g.opacities, atol=2e-6, rtol=1e-5
    )
    torch.testing.assert_close(columns("f_dc_0", "f_dc_1", "f_dc_2"), g.sh[:, 0])
    for channel in range(3):  # all of red, then green, then blue
        for k in range(1, colours):
            name = f"f_rest_{channel * (colours - 1) + k - 1}"
            torch.testing.assert_close(torch.tensor(found[name]), g.sh[:, k, channel])
    assert all(np.isfinite(values).all() for values in found.values())


def test_where_it_cannot_be_written_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_ply(tmp_path, some())


# ---- reading ----


def same(a: Gaussians, b: Gaussians) -> None:
    for name in ("means", "quats", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("colours", [1, 4, 9, 16])
def test_what_was_written_is_read(tmp_path: Path, colours: int) -> None:
    write_ply(tmp_path / "a.ply", some(colours=colours))
    same(read_splats(tmp_path / "a.ply").gaussians, some(colours=colours))


def foreign(path: Path, g: Gaussians, kind: str, ending: str = "\n") -> None:
    """Write as another program may: another order, other properties, types and elements."""
    rest = g.sh[:, 1:].transpose(1, 2).reshape(len(g.means), -1)
    columns = {
        "opacity": g.opacities.clamp(1e-6, 1 - 1e-6).logit(),
        **{f"rot_{n}": 3 * g.quats[:, n] for n in range(4)},
        **{f"f_rest_{n}": rest[:, n] for n in reversed(range(rest.shape[1]))},
        "red": torch.arange(len(g.means)) % 256,
        **{f"scale_{n}": g.scales[:, n].log() for n in range(3)},
        **{f"f_dc_{n}": g.sh[:, 0, n] for n in range(3)},
        "z": g.means[:, 2],
        "x": g.means[:, 0],
        "label": torch.full((len(g.means),), 7),
        "y": g.means[:, 1],
    }
    types = {"red": ("uchar", "u1"), "label": ("int", "<i4"), "z": ("double", "<f8")}
    row = np.dtype([(name, types.get(name, ("float", "<f4"))[1]) for name in columns])
    table = np.zeros(len(g.means), row)
    for name, values in columns.items():
        table[name] = values.numpy()
    head = ["ply", f"format {kind} 1.0", "comment by another program", "element camera 2"]
    head += ["property float f", "property uchar on", f"element vertex {len(g.means)}"]
    head += [f"property {types.get(name, ('float',))[0]} {name}" for name in columns]
    head += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    if kind == "ascii":
        lines = ["1.5 1", "2.5 0", *(" ".join(map(repr, map(float, line))) for line in table)]
        body = (ending.join([*lines, "3 0 1 2"]) + ending).encode()
    else:
        cameras = np.array([(1.5, 1), (2.5, 0)], [("f", "<f4"), ("on", "u1")])
        body = cameras.tobytes() + table.tobytes() + b"\3" + np.arange(3, dtype="<i4").tobytes()
    path.write_bytes(ending.join(head).encode() + body)


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_another_program_s_layout_is_read(tmp_path: Path, kind: str, ending: str) -> None:
    foreign(tmp_path / "a.ply", some(colours=9), kind, ending)
    same(read_splats(tmp_path / "a.ply").gaussians, some(colours=9))


def damaged(tmp_path: Path, old: bytes, new: bytes, kind: str = "ascii") -> Path:
    foreign(tmp_path / "a.ply", some(count=3, colours=1), kind)
    content = (tmp_path / "a.ply").read_bytes()
    assert old in content
    (tmp_path / "a.ply").write_bytes(content.replace(old, new, 1))
    return tmp_path / "a.ply"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"ply\n", b"plx\n", "expected a .ply file"),
        (b"ascii", b"binary_big_endian", "2: expected format ascii or binary_little_endian"),
        (b"vertex 3", b"vertex -3", "expected format"),
        (b"vertex 3", b"vertex 99999999999", "expected at most"),
        (b"vertex 3", b"vertex 30000000", "expected 30000000 lines"),
        (b"vertex 3", b"vertex 0", "got none"),
        (b"vertex 3", b"vertex 5", "expected"),
        (b"float opacity", b"float alpha", "missing: opacity"),
        (b"float f_dc_0", b"float f_rest_0", "missing: f_dc_0"),
        (b"float opacity", b"list uchar int opacity", "got lists"),
        (b"int label", b"float f_rest_0", "expected f_rest_0 to _8"),
        (b"int label", b"float opacity", "expected one property 'opacity'"),
        (b"int label", b"complex label", "got 'property complex label'"),
        (b"end_header", b"end_heater", "end_header"),
        (b"1.5 1\n", b"1.5 1\nnan nan\n", "numbers a line"),
        (b"1.5 1\n", b"", "numbers a line"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    path = damaged(tmp_path, old, new)
    with pytest.raises(InputError, match=said) as caught:
        read_splats(path)
    assert "\n" not in str(caught.value)
    assert "a.ply" in str(caught.value)


NAMES = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2")
NAMES += ("rot_0", "rot_1", "rot_2", "rot_3")


def write_table(path: Path, rows: list[list[float]], names: tuple[str, ...], kind: str) -> Path:
    """Write rows as one splat each, ASCII or binary."""
    head = ["ply", f"format {kind} 1.0", f"element vertex {len(rows)}"]
    head += [f"property float {name}" for name in names] + ["end_header", ""]
    text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
    body = text.encode() if kind == "ascii" else np.array(rows, "<f4").tobytes()
    path.write_bytes("\n".join(head).encode() + body)
    return path


def plain_row(**changes: float) -> list[float]:
    row = dict(zip(NAMES, [0, 0, 0, 1, 1, 1, 2, -4, -4, -4, 1, 0, 0, 0], strict=True))
    return [float(value) for value in (row | changes).values()]


INF, NAN = float("inf"), float("nan")
KINDS = ["ascii", "binary_little_endian"]


@pytest.mark.parametrize("kind", KINDS)
def test_infinite_numbers_mean_what_their_writers_mean(tmp_path: Path, kind: str) -> None:
    """Flat, opaque and invisible splats are read as such; not a number is left out, with a note."""
    rows = [
        plain_row(scale_2=-INF),
        plain_row(opacity=INF),
        plain_row(opacity=-INF),
        plain_row(x=NAN),
        plain_row(),
    ]
    file = read_splats(write_table(tmp_path / "a.ply", rows, NAMES, kind))
    g = file.gaussians
    assert len(g.means) == 4
    assert g.scales[0].tolist() == pytest.approx([math.exp(-4), math.exp(-4), 0.0])
    assert g.opacities[1:3].tolist() == [1.0, 0.0]
    (text,) = file.notes
    assert text.startswith(
        "4 splats are not finite: 1 left out, 3 shown as their writers mean them"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"y": INF}, "1 splat is not finite: 1 left out"),
        ({"scale_1": INF}, "1 splat is not finite: 1 left out"),
        ({"scale_1": 90.0}, "1 splat is further away than 1e+06 m, or larger than any scene"),
        ({"x": 1e9}, "1 splat is further away than 1e+06 m, or larger than any scene"),
        ({"rot_0": 0.0}, "1 splat is without a rotation"),
        ({"f_dc_1": -INF}, "1 splat is not finite: 1 left out"),
    ],
)
def test_a_splat_that_cannot_be_drawn_is_left_out(
    tmp_path: Path, kind: str, change: dict[str, float], text: str
) -> None:
    path = write_table(tmp_path / "a.ply", [plain_row(), plain_row(**change)], NAMES, kind)
    file = read_splats(path)
    assert len(file.gaussians.means) == 1
    assert file.notes[0].startswith(text)


def test_a_file_without_a_splat_that_can_be_drawn_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.ply", [plain_row(x=NAN)] * 3, NAMES, "ascii")
    with pytest.raises(InputError, match="got none: 3 splats are not finite: 3 left out"):
        read_splats(path)


def test_a_file_of_invisible_or_flat_splats_is_drawn(tmp_path: Path) -> None:
    """All of them infinite: the picture is made, and shows what it should."""
    for name, change, darkest in (("none", {"opacity": -INF}, 255), ("all", {"opacity": INF}, 60)):
        rows = [plain_row(x=x / 9, z=z / 9, f_dc_0=-1, f_dc_1=-1, f_dc_2=-1, scale_1=-INF, **change)
                for x in range(9) for z in range(9)]  # fmt: skip
        path = write_table(tmp_path / f"{name}.ply", rows, NAMES, "binary_little_endian")
        out = tmp_path / f"{name}.png"
        command = ["render", str(path), "--frames", "0", "-o", str(out), "--size", "40x30"]
        assert cli.main(command) == 0
        image = read_image(out)
        assert image.min() >= darkest if darkest == 255 else image.min() < darkest


@pytest.mark.parametrize("kind", KINDS)
def test_2d_gaussians_are_thin(tmp_path: Path, kind: str) -> None:
    rows = [[value for name, value in zip(NAMES, plain_row(), strict=True) if name != "scale_2"]]
    names = tuple(name for name in NAMES if name != "scale_2")
    g = read_splats(write_table(tmp_path / "a.ply", rows, names, kind)).gaussians
    assert g.scales[0].tolist() == pytest.approx([math.exp(-4), math.exp(-4), 1e-6])
    assert g.quats[0].tolist() == [1, 0, 0, 0]


def test_a_binary_file_that_was_cut_off_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", some())
    content = (tmp_path / "a.ply").read_bytes()
    for cut in (content[:-1], content.replace(b"vertex 50", b"vertex 99000000")):
        (tmp_path / "b.ply").write_bytes(cut)
        with pytest.raises(InputError, match=r"expected [0-9]+ bytes for"):
            read_splats(tmp_path / "b.ply")


def test_splats_are_the_same_in_every_frame(tmp_path: Path) -> None:
    """They are framed by the box about nearly all of them."""
    g = some(count=2000)
    write_ply(tmp_path / "two words.ply", g)
    data = load_splats(tmp_path / "two words.ply")
    assert data.name == "two words"
    renderer = Renderer(StaticSplats(data))
    motion = still_motion(data, 9)
    for frame in (0, 5):
        same(renderer.gaussians(window_at(data, motion, frame)), g)
    low, high = data.box
    inside = ((g.means >= low) & (g.means <= high)).float().mean(0)
    assert bool((inside > 0.97).all())
    assert bool((high < g.means.amax(0)).all())


def test_splats_are_rendered_by_the_command(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", some(count=400))
    out = tmp_path / "turn"
    command = ["render", str(tmp_path / "a.ply"), "-o", str(out), "--size", "40x30"]
    assert cli.main([*command, "--frames", "0:250:125", "--camera", "orbit"]) == 0
    front, behind = (read_image(out / f"frame_{n:06d}.png") for n in (0, 125))
    assert front.float().std() > 10
    assert not torch.equal(front, behind)
    assert cli.main([*command, "--motion", "dance"]) == 2
