"""OpenGL without a window: contexts, programs, meshes; for filming and for the viewer."""
