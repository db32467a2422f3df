"""Pure functions on tensors: rotations, kinematics, skinning, meshes, texels, cameras."""
