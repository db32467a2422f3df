"""Functions of the public library, `import ash_core as ash`, that no other room offers as such."""
