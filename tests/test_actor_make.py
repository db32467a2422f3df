"""The command that makes the character: needs anny, and a minute or two."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ash_core.files.released import import_ash
from ash_core.resources import resource
from ash_core.studio.mesh.surface import boundary_loops

pytest.importorskip("anny")


@pytest.mark.slow
def test_making_it_again_gives_the_bundled_character(tmp_path: Path) -> None:
    from ash_core.studio.actor.actor import make_actor

    told: list[float] = []
    files = make_actor(tmp_path / "actor", lambda _what, done: told.append(done))
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert files.mesh.is_file()
    made = import_ash(tmp_path / "actor" / "actor.conf")[0]
    bundled = import_ash(resource("assets", "actor") / "actor.conf")[0]
    assert len(boundary_loops(made.template.faces.numpy())) == 0
    assert made.skeleton.joint_names == bundled.skeleton.joint_names
    np.testing.assert_allclose(
        made.template.vertices.numpy(), bundled.template.vertices.numpy(), atol=1e-3
    )
    shutil.rmtree(tmp_path / "actor")
