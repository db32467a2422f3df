"""Body parts meant by the joint names of common motion files.

Mixamo, Rokoko, CMU, LAFAN, SMPL, Xsens, 3ds Max Biped, Daz and Unreal disagree on a few words. A
"shoulder" is a collar bone where there is an "arm" too, else an upper arm. So names are read
together.
"""

import re
from collections.abc import Mapping, Sequence

LEFT, RIGHT = "left", "right"
SIDES = (LEFT, RIGHT)
FINGERS = ("thumb", "index", "middle", "ring", "pinky")

_PREFIX = re.compile(
    r"^(?:.*[:|/]|character\d*_|bip\d*[ _]?|def[-_]|mixamorig\d*_?|valvebiped\.bip\d*_)"
)
_ROLL = re.compile(r"roll|twist|scale|helper|nub|(?<!b)end|null|volume|pole|inhand|carpal")
_FINGER = re.compile(r"(thumb|index|middle|mid|ring|pinky|little)\D*(\d*)")
_WORDS: Mapping[str, tuple[str, ...]] = {
    "clavicle": ("collar", "clavicle", "clav", "scapula"),
    "shoulder": ("shoulder", "shldr", "shldrbend"),
    "upper_arm": ("uparm", "upperarm", "armupper", "humerus", "arm"),
    "elbow": ("elbow", "forearm", "forearmbend", "lowerarm", "lowarm", "armlower", "radius"),
    "wrist": ("wrist",),
    "hand": ("hand",),
    "hip": ("hip",),
    "hip_joint": ("hipjoint",),
    "thigh": ("upleg", "upperleg", "legupper", "thigh", "thighbend", "femur"),
    "leg": ("leg",),
    "shin": ("lowleg", "lowerleg", "leglower", "knee", "shin", "calf", "tibia"),
    "ankle": ("ankle",),
    "foot": ("foot",),
    "toe": ("toe", "toes", "toebase", "ball", "forefoot"),
}
_OF_WORD = {word: kind for kind, words in _WORDS.items() for word in words}
_CENTRE: Mapping[str, tuple[str, ...]] = {
    "neck": ("neck", "upperneck", "lowerneck", "neckbase"),
    "head": ("head", "skull"),
}
_OF_CENTRE = {word: part for part, words in _CENTRE.items() for word in words}


def side_and_word(name: str) -> tuple[str | None, str]:
    """Split a name: ("left", "upleg") from LeftUpLeg, l_upleg, UpLeg.L, mixamorig:LeftUpLeg ..."""
    bare = _PREFIX.sub("", name.strip().lower() if name.isupper() else name.strip())
    bare = _PREFIX.sub("", bare.lower()) if ":" in bare else _strip(bare)
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", bare)
    words = [word for word in re.split(r"[^A-Za-z0-9]+", spaced.lower()) if word]
    side = None
    for mark, marked_side in (("left", LEFT), ("right", RIGHT), ("l", LEFT), ("r", RIGHT)):
        if mark in words:
            words.remove(mark)
            side = marked_side
            break
    joined = "".join(words)
    if side is None:
        for mark, marked_side in (("left", LEFT), ("right", RIGHT)):
            if joined.startswith(mark) or joined.endswith(mark):
                return marked_side, joined.replace(mark, "", 1)
        # CMU and Poser glue a letter on: LThumb, lShldr, rhip.
        if joined[:1] in "lr" and _kind(joined[1:]) is not None and _kind(joined) is None:
            return (LEFT if joined[0] == "l" else RIGHT), joined[1:]
    return side, joined


def _strip(name: str) -> str:
    match = _PREFIX.match(name.lower())
    return name[match.end() :] if match and match.end() < len(name) else name


def _kind(word: str) -> str | None:
    """Look up the part that a word without its side can mean."""
    bare = re.sub(r"\d+$", "", word)
    if bare in _OF_WORD:
        return _OF_WORD[bare]
    finger = _FINGER.search(word)
    if finger and "toe" not in word:
        name = {"mid": "middle", "little": "pinky"}.get(finger[1], finger[1])
        return f"{name}{int(finger[2] or 1)}" if len(finger[2]) < 3 else None
    return None


def body_parts(names: Sequence[str]) -> dict[str, str]:
    """Map each recognised part ("left thigh", "head", "right index1" ...) to its joint's name.

    Pelvis, chest and spine follow not from names but from where the limbs meet.
    """
    joints: dict[tuple[str | None, str], str] = {}
    for name in names:
        side, word = side_and_word(name)
        if _ROLL.search(re.sub(r"^(left|right)", "", word)):
            continue
        kind = _kind(word) if side else _OF_CENTRE.get(re.sub(r"\d+$", "", word))
        if kind is not None:
            joints.setdefault((side, kind), name)
    parts = {kind: name for (side, kind), name in joints.items() if side is None}
    for side in SIDES:
        own = {kind: name for (joint_side, kind), name in joints.items() if joint_side == side}
        parts |= {f"{side} {part}": name for part, name in _limbs(own).items()}
    return parts


def _limbs(own: dict[str, str]) -> dict[str, str]:
    """Resolve the words of one side together."""
    first = lambda *kinds: next((own[kind] for kind in kinds if kind in own), None)  # noqa: E731
    has_arm = "upper_arm" in own
    limbs = {
        "clavicle": first("clavicle", "shoulder") if has_arm else first("clavicle"),
        "upper_arm": first("upper_arm", "shoulder"),
        "forearm": first("elbow"),
        "hand": first("wrist", "hand"),
        "thigh": first("thigh", "hip", "hip_joint", "leg"),
        "shin": first("shin", "leg"),
        "foot": first("ankle", "foot"),
        "toe": first("toe", "foot") if "ankle" in own else first("toe"),
    }
    limbs |= {kind: own[kind] for kind in own if kind.rstrip("0123456789") in FINGERS}
    if limbs["shin"] == limbs["thigh"]:
        limbs["shin"] = None
    return {part: name for part, name in limbs.items() if name is not None}


def group_name(joint: str) -> str:
    """Return the bone of a joint of one dof: LeftArm_rx and LeftArm_rz belong to LeftArm."""
    return joint.split("_")[0]
