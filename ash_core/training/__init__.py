"""Training, footage to avatar: data, losses, the loop, its checkpoints and its measurements."""
