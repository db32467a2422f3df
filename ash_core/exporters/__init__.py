"""Motions of ours in the files of other programs."""
