"""Mapping of a motion's joints to an avatar's bones: guessed from names, stored in a file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ash_core.errors import InputError
from ash_core.files.io import bad, read_json, show, write_text
from ash_core.importers.retarget.joint_names import SIDES, body_parts, group_name
from ash_core.records import Skeleton

NEEDED = tuple(f"{side} {part}" for side in SIDES for part in ("thigh", "shin", "foot"))
"""Parts without which there is neither size nor floor."""
LIMIT_DEGREES = 360.0


@dataclass(frozen=True)
class Tree:
    """Names and parents of a hierarchy, an avatar's (by bone) or a file's."""

    names: tuple[str, ...]
    parents: tuple[int, ...]

    def line(self, name: str) -> list[str]:
        """List the joint and everything above it, upwards."""
        joint, names = self.names.index(name), []
        while joint >= 0:
            names.append(self.names[joint])
            joint = self.parents[joint]
        return names

    def meet(self, *names: str) -> str:
        """Find the lowest joint that is above all of these."""
        shared = set(self.line(names[0])).intersection(*map(self.line, names[1:]))
        return next(name for name in self.line(names[0]) if name in shared)

    def path(self, first: str, last: str) -> list[str]:
        """List the joints from one to another along the tree, both ends included."""
        top = self.meet(first, last)
        up, down = self.line(first), self.line(last)
        return up[: up.index(top) + 1] + down[: down.index(top)][::-1]


def bone_tree(skeleton: Skeleton) -> Tree:
    """Group a skeleton's joints by bone: by their names before the first `_`."""
    names: dict[str, int] = {}
    parents: list[int] = []
    for joint, name in enumerate(skeleton.joint_names):
        if (bone := group_name(name)) not in names:
            above = int(skeleton.parents[joint])
            names[bone] = len(names)
            parents.append(names[group_name(skeleton.joint_names[above])] if above >= 0 else -1)
    return Tree(tuple(names), tuple(parents))


@dataclass(frozen=True)
class Pair:
    """One joint of the file and the bone that it drives."""

    source: str
    bone: str
    part: str
    """Part of a body ("left thigh"); empty: the turns are carried over unchanged."""
    turn_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Turn added to the bone about x, then y, then z of the body frame at rest."""


@dataclass(frozen=True)
class Mapping:
    """All pairs, and the names without a partner."""

    pairs: tuple[Pair, ...]
    up: str = "y"
    """The file's vertical axis; empty: to be found from the pairs."""
    unmatched_source: tuple[str, ...] = ()
    unmatched_bones: tuple[str, ...] = field(default=())

    def of(self, part: str) -> Pair | None:
        """Look up the pair of a part."""
        return next((pair for pair in self.pairs if pair.part == part), None)


class UnknownNamesError(InputError):
    """Joints of a motion file that are needed and were not recognised."""

    def __init__(self, text: str, draft: Mapping) -> None:
        super().__init__(text)
        self.draft = draft
        """Recognised pairs, to be completed by the user."""


def guess_mapping(source: Tree, skeleton: Skeleton, up: str, place: Path | str) -> Mapping:
    """Pair the joints that both sides name alike. Legs are needed; the rest may be missing."""
    target = bone_tree(skeleton)
    source_parts, target_parts = _all_parts(source), _all_parts(target)
    if missing := [part for part in NEEDED if part not in target_parts]:
        names = _some(target.names)
        text = f"expected bones for {', '.join(missing)}; recognised none among {names}"
        raise bad("skeleton", None, f"{text}; give --mapping, a file with your own pairs")
    shared = [part for part in target_parts if part in source_parts]
    pairs = [Pair(source_parts[part], target_parts[part], part) for part in shared]
    pairs += _spine_pairs(source, target, source_parts, target_parts)
    mapping = _complete(pairs, up, source, target)
    if missing := [part for part in NEEDED if part not in source_parts]:
        names = _some(source.names)
        text = f"expected joints for {', '.join(missing)}; recognised none among {names}"
        text += "; give --mapping, a file with your own pairs"
        # Without legs the up axis is unknown: it follows from the completed pairs.
        raise UnknownNamesError(str(bad(place, None, text)), replace(mapping, up=""))
    return mapping


def _some(names: Sequence[str], count: int = 12) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(map(show, names[:count])) + more


def _complete(pairs: Sequence[Pair], up: str, source: Tree, target: Tree) -> Mapping:
    used, driven = {pair.source for pair in pairs}, {pair.bone for pair in pairs}
    return Mapping(
        pairs=tuple(pairs),
        up=up,
        unmatched_source=tuple(name for name in source.names if name not in used),
        unmatched_bones=tuple(name for name in target.names if name not in driven),
    )


def _all_parts(tree: Tree) -> dict[str, str]:
    """Collect named parts, and pelvis and chest: where the legs and where the arms meet."""
    parts = body_parts(tree.names)
    thighs = [parts[f"{side} thigh"] for side in SIDES if f"{side} thigh" in parts]
    arms = [parts.get(f"{side} clavicle", parts.get(f"{side} upper_arm", "")) for side in SIDES]
    if len(thighs) == 2:
        parts["pelvis"] = tree.meet(*thighs)
    if all(arms):
        chest = tree.meet(*arms)
        if chest != parts.get("pelvis"):
            parts["chest"] = chest
    return parts


def _spine_pairs(
    source: Tree, target: Tree, source_parts: dict[str, str], target_parts: dict[str, str]
) -> list[Pair]:
    """Pair joints of spine and neck by their relative position along them."""
    pairs = []
    for low, high, part in (("pelvis", "chest", "spine"), ("neck", "head", "neck")):
        if not all(end in named for end in (low, high) for named in (source_parts, target_parts)):
            continue
        joints = source.path(source_parts[low], source_parts[high])[1:-1]
        bones = target.path(target_parts[low], target_parts[high])[1:-1]
        used: set[int] = set()
        for n, name in enumerate(joints):
            n_bone = round((n + 1) / (len(joints) + 1) * (len(bones) + 1)) - 1
            if 0 <= n_bone < len(bones) and n_bone not in used:
                used.add(n_bone)
                pairs.append(Pair(name, bones[n_bone], f"{part} {n_bone + 1}"))
    return pairs


# ---- the file ----


def write_draft(path: Path | str, draft: Mapping, skeleton: Skeleton) -> None:
    """Write a mapping to be completed, with the bones that need a joint by part."""
    bones = _all_parts(bone_tree(skeleton))
    driven = {pair.bone for pair in draft.pairs}
    needed = {part: bones[part] for part in (*NEEDED, "pelvis") if part in bones}
    needed = {part: bone for part, bone in needed.items() if bone not in driven}
    example = next(iter(needed.values()), "Head")
    about = (
        "Some joints were not recognised. Add a line for each to 'joints', such as "
        f'"NAME_IN_THE_MOTION_FILE": "{example}": every bone under \'needed\', any other of '
        "'unmatched'. Then give this file with --mapping."
    )
    _write(path, draft, {"about": about, "needed": needed})


def write_mapping(path: Path | str, mapping: Mapping) -> None:
    """Write a mapping to be edited and given back with --mapping."""
    about = (
        "Joint of the motion file -> bone of the skeleton. Remove, add or change lines; "
        "turn_degrees is added about x, then y, then z of the body frame at rest."
    )
    _write(path, mapping, {"about": about})


def _write(path: Path | str, mapping: Mapping, head: dict[str, object]) -> None:
    joints = {
        pair.source: {
            "bone": pair.bone,
            "part": pair.part,
            "turn_degrees": list(pair.turn_degrees),
        }
        for pair in mapping.pairs
    }
    content = {
        **head,
        **({"up": mapping.up} if mapping.up else {}),
        "joints": joints,
        "unmatched": {
            "source": list(mapping.unmatched_source),
            "bones": list(mapping.unmatched_bones),
        },
    }
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_mapping(path: Path | str, source: Tree, skeleton: Skeleton) -> Mapping:
    """Read a mapping; every name in it must be a joint of its side."""
    # Head of the file.
    target = bone_tree(skeleton)
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("joints"), dict):
        raise bad(path, None, "expected a JSON object with 'joints', an object of joint names")
    up = content.get("up", "")
    if up not in ("y", "z") and "up" in content:
        raise bad(path, None, f"up: expected 'y' or 'z', got {show(repr(up)[:60])}")
    # One pair for each joint.
    bones = _all_parts(target)
    parts = {bone: part for part, bone in bones.items()}
    pairs: list[Pair] = []
    for name, entry in content["joints"].items():
        entry = {"bone": entry} if isinstance(entry, str) else entry
        place = f"joints: {show(name)}"
        if name not in source.names:
            raise bad(path, None, f"{place}: expected a joint of the motion file")
        bone = entry.get("bone") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(bone, str) or bone not in target.names:
            text = f"expected 'bone', one of the skeleton's, got {show(repr(bone)[:60])}"
            raise bad(path, None, f"{place}: {text}")
        if any(pair.bone == bone for pair in pairs):
            raise bad(path, None, f"{place}: expected one joint a bone, got a second for {bone}")
        part = entry.get("part", parts.get(bone, ""))
        if not isinstance(part, str):
            raise bad(path, None, f"{place}: part: expected a string")
        turn = _turn(path, place, entry.get("turn_degrees", [0, 0, 0]))
        pairs.append(Pair(name, bone, part, turn))
    # Pairs that every mapping needs.
    mapping = _complete(pairs, up, source, target)
    missing = [part for part in (*NEEDED, "pelvis") if mapping.of(part) is None]
    if missing:
        needed = (f"{bones[part]} ({part})" if part in bones else part for part in missing)
        raise bad(path, None, f"joints: expected a joint for {', '.join(needed)}, got none")
    return mapping


def _turn(path: Path | str, place: str, value: object) -> tuple[float, float, float]:
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 3 or not all(
        isinstance(n, int | float) and not isinstance(n, bool) and abs(n) <= LIMIT_DEGREES
        for n in numbers
    ):
        text = f"turn_degrees: expected three angles within {LIMIT_DEGREES:g}"
        raise bad(path, None, f"{place}: {text}")
    x, y, z = map(float, numbers)
    return x, y, z


def mapping_of(
    place: Path | str, source: Tree, skeleton: Skeleton, up: str, mapping: Path | None
) -> Mapping:
    """Read a mapping file where there is one, else guess."""
    if mapping is not None:
        return read_mapping(mapping, source, skeleton)
    return guess_mapping(source, skeleton, up, place)
