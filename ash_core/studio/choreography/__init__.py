"""Motions made for an actor: poses, walks, dances."""
