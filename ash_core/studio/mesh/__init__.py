"""Triangle meshes: cut, smoothed, simplified, unwrapped into an atlas."""
