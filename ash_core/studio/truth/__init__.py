"""What an actor truly looks like: wrinkles, swinging cloth, shade."""
