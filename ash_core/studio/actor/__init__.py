"""The actor: body, clothes, rig and texture, written as a character."""
