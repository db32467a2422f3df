"""SMPL, SMPL-H and SMPL-X bodies as characters of ours, and their poses as motions."""
