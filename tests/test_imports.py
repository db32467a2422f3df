"""The house's order of floors, read from the syntax trees: nobody imports from above."""

import ast
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ash_core import resources

ROOT = Path(__file__).resolve().parent.parent

BASE = {"errors", "install", "resources", "conventions", "variants", "records"}
MAY_IMPORT = {
    "__init__": set(),
    "conventions": set(),
    "errors": set(),
    "install": set(),
    "resources": set(),
    "variants": {"conventions"},
    "records": {"conventions", "errors", "variants"},
    "geometry": BASE,
    "networks": BASE | {"geometry"},
    "gpu": BASE | {"geometry"},
    "files": BASE | {"geometry", "networks"},
    "rendered_image": BASE | {"files"},
    "splat": BASE | {"geometry", "gpu", "rendered_image"},
    "gl": BASE | {"geometry"},
    "drawable": BASE,
    "frame_choice": {"errors"},
    "silhouettes": BASE | {"geometry", "splat"},
    "cloth": BASE | {"geometry", "gpu", "silhouettes"},
    "character": BASE | {"geometry", "networks", "splat", "gl", "cloth"},
    "avatar": BASE | {"geometry", "networks", "splat", "gl", "cloth", "character", "drawable"},
    "pose_windows": BASE | {"geometry", "cloth", "character"},
}
MAY_IMPORT["gpu_frame"] = MAY_IMPORT["avatar"] | {"avatar", "gpu"}
MAY_IMPORT["look"] = BASE | {"geometry"}
MAY_IMPORT["render"] = MAY_IMPORT["gpu_frame"] | {"gpu_frame", "look", "rendered_image"}
MAY_IMPORT["render"].add("pose_windows")
FRONT_ENDS = {"studio", "footage", "importers", "exporters", "training", "doctor"}
for name in FRONT_ENDS:
    MAY_IMPORT[name] = MAY_IMPORT["render"] | {"render", "files", "frame_choice"}
MAY_IMPORT["importers"].add("studio")  # a rigged character becomes an actor of the studio
MAY_IMPORT["importers"].add("silhouettes")
MAY_IMPORT["training"].add("silhouettes")
MAY_IMPORT["training"].add("importers")  # parts of a body by the names of its bones
MAY_IMPORT["importers"].add("footage")  # a body is fitted to the silhouettes of masks
MAY_IMPORT["captures"] = MAY_IMPORT["importers"] | {"importers", "studio", "footage"}
"""A capture becomes a data set: a body's character, our motions and images."""
MAY_IMPORT["exporters"].add("importers")  # bones of a skeleton, and the body it was made of
MAY_IMPORT["scene"] = MAY_IMPORT["render"] | {"render", "files", "importers", "rendered_image"}
"""The importers stand below: opening a .bvh retargets it, and no importer needs to know a scene."""
MAY_IMPORT["library"] = MAY_IMPORT["scene"] | {"scene", "training"}
MAY_IMPORT["__init__"] = MAY_IMPORT["library"] | {"look", "library"}
"""The library's names; nothing is imported before one is used (test_library)."""
MAY_IMPORT["commands"] = MAY_IMPORT["scene"] | {"scene", "frame_choice", "__init__"} | FRONT_ENDS
MAY_IMPORT["commands"].add("captures")
MAY_IMPORT["cli"] = MAY_IMPORT["commands"] | {"commands"}
"""Part of ash_core: the parts that it may import, besides itself."""

WINDOWLESS_VIEWER = {
    "session",
    "live_scene",
    "commands",
    "clock",
    "saving",
    "pose_history",
    "file_dialog",
    "front_end",
    "unsaved",
    "autosave",
}
GUI = {"imgui_bundle", "glfw", "OpenGL"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


RESTRICTED = ROOT / "ash_core" / "files" / "restricted_pickle.py"
"""Reader of users' pickles."""
PROGRAM = "__name__ == '__main__'"


def imported_names(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a module, those inside functions too.

    Not of what it does as a program: that is the command line's, whatever the floor.
    """
    module = ast.parse(path.read_text())
    module.body = [
        node
        for node in module.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == PROGRAM)
    ]
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module, path
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT / "ash_core")
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def parts_imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, part) of every import from ash_core; a bare name in it counts as __init__."""
    for line, name in imported_names(path):
        head, *rest = name.split(".")
        if head == "ash_core" and rest:
            part = rest[0]
            inside = (ROOT / "ash_core" / part).is_dir() or (ROOT / f"ash_core/{part}.py").exists()
            yield line, part if inside else "__init__"


@pytest.mark.parametrize("path", modules("ash_core"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_order(path: Path) -> None:
    part = part_of(path)
    assert part in MAY_IMPORT, f"{part}: say in MAY_IMPORT on which floor it stands"
    allowed = MAY_IMPORT[part] | {part}
    wrong = [f"{path}:{line}: {name}" for line, name in parts_imported(path) if name not in allowed]
    assert not wrong


@pytest.mark.parametrize("path", modules("ash_core"), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_never_imports_the_viewer_or_a_window(path: Path) -> None:
    heads = {name.split(".")[0] for _, name in imported_names(path)}
    assert not heads & {"viewer", "imgui_bundle", "glfw"}


@pytest.mark.parametrize("path", modules("viewer"), ids=lambda p: str(p.relative_to(ROOT)))
def test_viewer_never_imports_the_command_line(path: Path) -> None:
    """Window and command line stand side by side on the scene; entry points join them."""
    assert not {part for _, part in parts_imported(path)} & {"commands", "cli"}


def test_nothing_runs_modules_by_name() -> None:
    for package in ("ash_core", "viewer"):
        for path in modules(package):
            assert "runpy" not in {name for _, name in imported_names(path)}, path
    assert "ash_studio.sessions" not in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("path", modules("viewer"), ids=lambda p: str(p.relative_to(ROOT)))
def test_viewer_logic_imports_no_window(path: Path) -> None:
    if path.parent.name == "viewer" and path.stem in WINDOWLESS_VIEWER:
        assert not {name.split(".")[0] for _, name in imported_names(path)} & GUI


@pytest.mark.parametrize("path", modules("ash_core"), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_never_unpickles(path: Path) -> None:
    """Allow pickle's error alone, and torch.load with weights_only=True.

    One module derives a reader from pickle's, which looks up no class by its name.
    """
    tree = ast.parse(path.read_text())
    allowed = {"UnpicklingError"}
    if path == RESTRICTED:
        allowed.add("_Unpickler")
        (reader,) = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and "pickle" in "".join(map(ast.unparse, node.bases))
        ]
        methods = {node.name for node in reader.body if isinstance(node, ast.FunctionDef)}
        assert methods == {"find_class", "persistent_load"}
        assert "super" not in ast.unparse(reader)
        assert path.read_text().count("pickle._Unpickler") == 1
    names = {name for _, name in imported_names(path)}
    assert not names & {"dill", "marshal"}
    assert not [name for name in names if name.startswith("pickle.")]
    for node in ast.walk(tree):
        place = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
            assert node.attr in allowed, place
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            arguments = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert arguments.get("weights_only") == "True", place


def test_wheel_carries_what_resources_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = pytest.importorskip("hatchling.build")
    monkeypatch.chdir(ROOT)
    name = build.build_wheel(str(tmp_path))
    with zipfile.ZipFile(tmp_path / name) as wheel:
        carried = {item for item in wheel.namelist() if re.match("ash_core/_[a-z]", item)}
        assert {"ash_core/py.typed", "viewer/py.typed"} <= {*wheel.namelist()}
    files = [path for kind in resources.KINDS for path in (ROOT / kind).rglob("*")]
    wanted = {f"ash_core/_{path.relative_to(ROOT)}" for path in files if path.is_file()}
    assert wanted
    assert carried == wanted


def test_help_needs_no_torch() -> None:
    """Nothing that the command line imports at its start takes long."""
    starts = [ROOT / "ash_core" / name for name in ("cli.py", "commands/usage.py")]
    seen, waiting = set(), starts
    while waiting:
        path = waiting.pop()
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                assert name.split(".")[0] not in {"torch", "numba", "numpy", "rich", "av"}, path
                inner = ROOT / f"{name.replace('.', '/')}.py"
                if inner.exists() and inner not in seen:
                    seen.add(inner)
                    waiting.append(inner)
    assert ROOT / "ash_core" / "commands" / "render.py" in seen


def bound_names(path: Path) -> set[str]:
    """Names that a module binds at its top, its submodules among them."""
    names = {child.stem for child in path.parent.glob("*")} if path.name == "__init__.py" else set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("path", modules("tests/bench"), ids=lambda p: p.name)
def test_benches_import_names_that_exist(path: Path) -> None:
    """No test runs them: a name that was changed would show on the GPU machine alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        home = ROOT.joinpath(*node.module.split("."))
        if node.module.split(".")[0] not in ("ash_core", "viewer"):
            continue
        module = home / "__init__.py" if home.is_dir() else home.with_suffix(".py")
        missing = {alias.name for alias in node.names} - bound_names(module)
        assert not missing, f"{path}:{node.lineno}: {node.module} has no {', '.join(missing)}"
