"""The virtual stage: cameras, light, and the footage of a data set."""
