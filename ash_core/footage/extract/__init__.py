"""Videos to masked images, one process a camera."""
