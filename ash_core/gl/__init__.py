"""OpenGL without a window: contexts, programs, meshes. Shared by the capture studio and the viewer."""
