"""Retargeting of motions to the skeletons of avatars."""
