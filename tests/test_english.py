"""The house's English, read from the syntax trees: docstrings open with a verb or a noun."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ash_core", "viewer")
NO_OPENINGS = {
    "As",
    "By",
    "From",
    "How",
    "In",
    "Of",
    "Since",
    "Than",
    "Those",
    "What",
    "Where",
    "Whether",
    "Which",
    "With",
}
ALLOWED = {
    "ash_core/studio/actor/actor.py": 1,
    "ash_core/studio/actor/atlas_layout.py": 1,
    "ash_core/studio/actor/body.py": 4,
    "ash_core/studio/actor/dress.py": 3,
    "ash_core/studio/actor/regions.py": 2,
    "ash_core/studio/actor/texture.py": 1,
    "ash_core/studio/choreography/posing.py": 1,
    "ash_core/studio/choreography/stage.py": 2,
    "ash_core/footage/extract/cutter.py": 2,
    "ash_core/footage/extract/extract.py": 3,
    "ash_core/footage/extract/extract_jobs.py": 2,
    "ash_core/footage/extract/journal.py": 6,
    "ash_core/footage/extract/masks.py": 1,
    "ash_core/footage/extract/survey.py": 3,
    "ash_core/studio/film/camera_ring.py": 4,
    "ash_core/studio/film/film.py": 5,
    "ash_core/studio/film/film_pass.py": 3,
    "ash_core/studio/film/film_record.py": 3,
    "ash_core/studio/film/film_stage.py": 5,
    "ash_core/studio/film/film_truth.py": 3,
    "ash_core/studio/film/script.py": 4,
    "ash_core/studio/film/studio_light.py": 3,
    "ash_core/importers/gltf/gltf_character.py": 1,
    "ash_core/importers/gltf/gltf_motion.py": 1,
    "ash_core/footage/inspect/inspection.py": 6,
    "ash_core/studio/mesh/pack.py": 1,
    "ash_core/studio/mesh/texels.py": 1,
    "ash_core/studio/mesh/unwrap.py": 1,
    "ash_core/studio/truth/__init__.py": 1,
    "ash_core/studio/truth/cloth.py": 2,
    "ash_core/studio/truth/dressing.py": 2,
    "ash_core/studio/truth/folds.py": 1,
    "ash_core/studio/truth/true_surface.py": 4,
    "ash_core/studio/wardrobe/cloths.py": 1,
    "ash_core/studio/wardrobe/fit.py": 3,
    "ash_core/studio/wardrobe/hang.py": 4,
    "ash_core/studio/wardrobe/layout.py": 1,
    "ash_core/studio/wardrobe/make.py": 1,
    "ash_core/studio/wardrobe/outfits.py": 4,
    "ash_core/studio/wardrobe/sew.py": 2,
    "ash_core/studio/wardrobe/sheet.py": 1,
    "ash_core/commands/render.py": 3,
    "ash_core/commands/scene.py": 1,
    "ash_core/doctor.py": 2,
    "ash_core/gpu_frame/character.py": 3,
    "ash_core/gpu_frame/convolutions.py": 2,
    "ash_core/gpu_frame/decoders.py": 2,
    "ash_core/files/bvh.py": 1,
    "ash_core/files/checks.py": 1,
    "ash_core/files/dataset.py": 6,
    "ash_core/files/footage.py": 3,
    "ash_core/files/gltf.py": 2,
    "ash_core/files/masked_image.py": 2,
    "ash_core/files/obj.py": 1,
    "ash_core/files/released.py": 3,
    "ash_core/files/skeletool.py": 1,
    "ash_core/files/tensors.py": 1,
    "ash_core/files/io.py": 2,
    "ash_core/files/video.py": 4,
    "ash_core/geometry/camera.py": 1,
    "ash_core/geometry/embedded_graph.py": 1,
    "ash_core/geometry/lens.py": 2,
    "ash_core/geometry/texel_frames.py": 2,
    "ash_core/gl/context.py": 1,
    "ash_core/gl/mesh.py": 1,
    "ash_core/gl/program.py": 2,
    "ash_core/gl/projection.py": 1,
    "ash_core/gl/target.py": 2,
    "ash_core/gpu/kernels.py": 4,
    "ash_core/look.py": 4,
    "ash_core/records.py": 1,
    "ash_core/splat/cpu.py": 1,
    "ash_core/splat/cuda.py": 6,
    "ash_core/splat/gsplat_adapter.py": 2,
    "ash_core/splat/rasterize.py": 3,
    "ash_core/splat/reference.py": 1,
    "viewer/app.py": 2,
    "viewer/camera_controls.py": 8,
    "viewer/clock.py": 5,
    "viewer/command.py": 2,
    "viewer/commands.py": 1,
    "viewer/document.py": 5,
    "viewer/path_files.py": 1,
    "viewer/pose.py": 15,
    "viewer/recorder.py": 5,
    "viewer/scene.py": 5,
    "viewer/session.py": 13,
    "viewer/session_file.py": 4,
}
"""Path: docstrings of earlier rounds that still open so. A number may fall, never rise."""


def opening(text: str) -> str:
    """Return the first word of a docstring."""
    match = re.match(r"\W*(\w+)", text)
    return "" if match is None else match[1]


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """List line and text of every docstring: of modules, classes, functions, fields, constants."""
    for node in ast.walk(ast.parse(source)):
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            for statement in statements if isinstance(statements, list) else []:
                value = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield statement.lineno, value.value


def offenders(source: str) -> list[tuple[int, str]]:
    """List line and first line of the docstrings that open with one of these words, in order."""
    texts = sorted((line, text.splitlines()[0]) for line, text in docstrings(source) if text)
    return [(line, text) for line, text in texts if opening(text) in NO_OPENINGS]


def excess(offending: dict[str, list[tuple[int, str]]], allowed: dict[str, int]) -> list[str]:
    """Describe the offenders of every file that has more of them than are allowed."""
    lines = []
    for name, texts in offending.items():
        if len(texts) > allowed.get(name, 0):
            lines.append(f"{name}: {len(texts)} docstrings, {allowed.get(name, 0)} allowed")
            lines += [f'  {name}:{line}: """{text}' for line, text in texts]
    return lines


def test_docstrings_open_with_a_verb_or_a_noun() -> None:
    offending = {
        path.relative_to(ROOT).as_posix(): offenders(path.read_text())
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    lines = excess(offending, ALLOWED)
    assert not lines, "open with a verb (functions) or a noun (the rest):\n" + "\n".join(lines)


def test_the_allow_list_names_files_that_exist() -> None:
    gone = [name for name in ALLOWED if not (ROOT / name).is_file()]
    assert not gone, gone


SAMPLE = '''"""Where things lie."""

SIDE_PX = 3
"""Of the square."""


class Box:
    """Box around a person."""

    left: int
    """What is left."""

    @property
    def is_empty(self) -> bool:
        """Whether it has no pixels."""
        return False

    def cut(self) -> None:
        """Cut it out. Of this sentence only the first one counts."""
'''


def test_every_kind_of_docstring_is_read() -> None:
    assert [line for line, _ in offenders(SAMPLE)] == [1, 4, 11, 15]


def test_an_added_offender_is_named() -> None:
    texts = {"box.py": offenders(SAMPLE)}
    assert excess(texts, {"box.py": 4}) == []
    assert excess(texts, {"box.py": 3}) == [
        "box.py: 4 docstrings, 3 allowed",
        '  box.py:1: """Where things lie.',
        '  box.py:4: """Of the square.',
        '  box.py:11: """What is left.',
        '  box.py:15: """Whether it has no pixels.',
    ]
    assert len(excess(texts, {})) == 5
