"""Rigged glTF characters and their motions."""
