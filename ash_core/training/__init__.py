"""Training: footage to an avatar. Data, losses, the loop, checkpoints and measurements."""
