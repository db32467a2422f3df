"""From footage to an avatar: data, losses, the loop, its checkpoints and its measurements."""
