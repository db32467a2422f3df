"""OBJ files: the published numbers, round trips, and what is said of damaged ones."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import toy_mesh

from ash_core.errors import InputError
from ash_core.files.obj import ObjMesh, read_obj, write_obj

SQUARE = ["v 0 0 0", "v 1 0 0", "v 1 1 0", "v 0 1 0", "vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]


def obj(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "a.obj"
    path.write_text("\n".join([*SQUARE, *lines]) + "\n")
    return path


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.float().contiguous().numpy().tobytes()).hexdigest()[:16]


def test_published_mesh(reference: Path) -> None:
    want = np.load(reference / "golden" / "02_mesh.npz")
    mesh = read_obj(reference / "ddc_sample" / "ddc.obj")
    assert digest(mesh.vertices) == want["verts_sha"]
    assert mesh.corner_uvs is not None
    assert mesh.colours is not None
    assert digest(mesh.corner_uvs) == want["uv_sha"]
    np.testing.assert_array_equal(mesh.faces, want["faces"])
    np.testing.assert_array_equal(mesh.colours[::64], want["vertex_colors_every64"])
    assert mesh.texture == reference / "ddc_sample" / "ddc.png"
    graph = read_obj(reference / "ddc_sample" / "ddc_graph.obj", need_uvs=False)
    np.testing.assert_array_equal(graph.faces, want["graph_faces"])
    np.testing.assert_array_equal(graph.vertices, want["graph_verts_mm"])


def test_round_trip(tmp_path: Path) -> None:
    mesh = toy_mesh()
    write_obj(tmp_path / "toy.obj", mesh, "skin of toy.png")
    got = read_obj(tmp_path / "toy.obj")
    assert got.texture == tmp_path / "skin of toy.png"
    for name in ("vertices", "faces", "corner_uvs", "colours"):
        torch.testing.assert_close(getattr(got, name), getattr(mesh, name), atol=0, rtol=0)
    bare = ObjMesh(mesh.vertices, mesh.faces)
    write_obj(tmp_path / "bare.obj", bare)
    got = read_obj(tmp_path / "bare.obj", need_uvs=False)
    assert (got.corner_uvs, got.colours, got.texture) == (None, None, None)
    assert torch.equal(got.faces, mesh.faces)


def test_negative_indices_count_back(tmp_path: Path) -> None:
    plain = read_obj(obj(tmp_path, "f 1/1 2/2 3/3", "f 1/1/9 3/3/9 4/4/9"))
    back = read_obj(obj(tmp_path, "f -4/-4 -3/-3 -2/-2", "f 1/1 -2/-2 4/4"))
    assert torch.equal(plain.faces, back.faces)
    assert plain.corner_uvs is not None
    assert back.corner_uvs is not None
    assert torch.equal(plain.corner_uvs, back.corner_uvs)


def test_the_material_of_the_mesh_gives_the_texture(tmp_path: Path) -> None:
    library = "newmtl a\nmap_Kd a.png\nnewmtl b\nmap_Kd -s 1 1 1 sub\\b.png\n"
    (tmp_path / "x.mtl").write_text(library)
    path = obj(tmp_path, "mtllib ./x.mtl", "usemtl b", "f 1/1 2/2 3/3")
    assert read_obj(path).texture == tmp_path / "sub" / "b.png"
    for absent in ("y.mtl", "y" * 300, "y\0"):
        path = obj(tmp_path, f"mtllib {absent}", "f 1/1 2/2 3/3")
        assert read_obj(path).texture is None


def test_a_backslash_continues_a_line(tmp_path: Path) -> None:
    plain = read_obj(obj(tmp_path, "v 0 0 1", "f 1/1 2/2 3/3", "f 1/1 3/3 5/4"))
    lines = ["v 0 \\\r", "0 1", "f 1/1 2/2 \\", "\\", "3/3", "f \\", "1/1 \\", "3/3 \\", "5/4"]
    broken = read_obj(obj(tmp_path, "# made in C:\\meshes\\", *lines))
    assert torch.equal(plain.vertices, broken.vertices)
    assert torch.equal(plain.faces, broken.faces)
    # An error names the line where the statement starts; the last one may end in nothing.
    with pytest.raises(InputError, match=r"a.obj:9: expected vertices 1 to 4, got 7"):
        read_obj(obj(tmp_path, "f 1/1 \\", "2/2 7/3"))
    assert len(read_obj(obj(tmp_path, "f 1/1 2/2 3/3\\")).faces) == 1


FAULTS = {
    "one point": ("f 1/1 2/1 3/1", r":5: expected texture coordinates that cover .* in one point"),
    "a line": ("f 1/1 2/2 3/1", r":5: expected texture coordinates that cover .* in lines"),
    "quad": ("f 1/1 2/2 3/3 4/4", r":9: expected triangles, got a face with 4 corners"),
    "edge": ("f 1/1 2/2", r":9: expected triangles, got a face with 2 corners"),
    "no UVs": ("f 1 2 3", r":9: expected texture coordinates"),
    "no UV": ("f 1/1 2//1 3/3", r":9: expected texture coordinates"),
    "vertex": ("f 1/1 2/2 5/3", r":9: expected vertices 1 to 4, got 5"),
    "UV": ("f 1/1 2/2 3/5", r":9: expected texture coordinates 1 to 4, got 5"),
    "zero": ("f 0/1 2/2 3/3", r":9: expected vertices 1 to 4, got one outside"),
    "zero UV": ("f 1/0 2/2 3/3", r":9: expected texture coordinates 1 to 4, got one outside"),
    "too far back": ("f -5/1 2/2 3/3", r":9: expected vertices 1 to 4, got one outside"),
    "huge": (f"f {10**30}/1 2/2 3/3", r":9: expected vertices 1 to 4, got one outside"),
    "word": ("f a/1 2/2 3/3", r":9: expected corners as 'vertex/texture/normal'"),
    "NaN": ("v nan 0 0\nf 1/1 2/2 3/3", r":9: expected finite numbers in 'v'"),
    "infinite": ("v 0 1e39 0\nf 1/1 2/2 3/3", r":9: expected finite numbers in 'v'"),
    "NaN UV": ("vt nan 0\nf 1/1 2/2 3/3", r":9: expected finite numbers in 'vt'"),
    "far": ("v 0 1e30 0\nf 1/1 2/2 3/3", r":9: expected coordinates up to 1e\+07, got \[0.0, 1.0"),
    "grouped digits": ("v 0 52_34 0\nf 1/1 2/2 3/3", r":9: expected numbers: .*could not convert"),
    "short": ("v 0 0\nf 1/1 2/2 3/3", r":9: expected 'v' with 3, 4, 6 numbers, got 2"),
    "letters": ("v 0 0 x\nf 1/1 2/2 3/3", r":9: expected numbers"),
    "no faces": ("", r": expected a mesh, got 4 'v' and 0 'f' lines"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_meshes_are_named(tmp_path: Path, fault: str) -> None:
    text, message = FAULTS[fault]
    with pytest.raises(InputError, match=r"a.obj" + message):
        read_obj(obj(tmp_path, text))
