"""The desktop viewer (work in progress: nothing is exported yet)."""
