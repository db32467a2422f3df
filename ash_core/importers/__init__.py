"""Motions and characters of others: BVH, glTF."""
