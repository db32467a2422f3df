"""True surface of an actor: wrinkles, swinging cloth, shade."""
