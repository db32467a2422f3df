"""The .ply of a frame: what another program reads is what was drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ash_core.errors import InputError
from ash_core.files.ply import write_ply
from ash_core.records import Gaussians


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
    """As any reader of the format does it."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = head.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
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
