"""Other people's motions on our skeletons."""
