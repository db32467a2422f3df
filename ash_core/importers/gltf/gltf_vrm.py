"""VRM avatars: glTF files whose extensions name the body's bones and let hair and cloth swing."""

from ash_core.files.gltf import Gltf


def vrm_notes(gltf: Gltf) -> list[str]:
    """List the parts of a VRM file that are not converted; empty for other files."""
    extensions = gltf.child(gltf.content, "extensions", "")
    old = gltf.child(extensions, "VRM", "extensions: ")
    new = gltf.child(extensions, "VRMC_vrm", "extensions: ")
    if not old and not new:
        return []
    springs = gltf.child(extensions, "VRMC_springBone", "extensions: ").get("springs")
    groups = gltf.child(old, "secondaryAnimation", "extensions: VRM: ").get("boneGroups")
    notes = []
    chains = springs or groups
    if isinstance(chains, list) and chains:
        notes.append(
            f"VRM: {len(chains)} spring bone chains stay at rest (hair and cloth do not swing by "
            "themselves; training on footage teaches that)"
        )
    if any("VRMC_node_constraint" in node.get("extensions", {}) for node in _extended(gltf)):
        notes.append("VRM: node constraints (twist bones) are not evaluated")
    return notes


def _extended(gltf: Gltf) -> list[dict]:
    nodes = gltf.entries("nodes")
    return [node for node in nodes if isinstance(node.get("extensions"), dict)]


def human_bones(gltf: Gltf) -> dict[str, int]:
    """Find the node of each bone that a VRM file names ("leftHand" ...); empty for other files."""
    extensions = gltf.child(gltf.content, "extensions", "")
    new = gltf.child(extensions, "VRMC_vrm", "extensions: ")
    old = gltf.child(extensions, "VRM", "extensions: ")
    bones = gltf.child(new or old, "humanoid", "extensions: ").get("humanBones")
    if isinstance(bones, dict):
        pairs = [(name, bone) for name, bone in bones.items() if isinstance(bone, dict)]
    else:
        listed = bones if isinstance(bones, list) else []
        pairs = [(bone.get("bone"), bone) for bone in listed if isinstance(bone, dict)]
    count = len(gltf.entries("nodes"))
    return {
        name: gltf.index(bone.get("node"), count, f"humanoid: {name}")
        for name, bone in pairs
        if isinstance(name, str)
    }
