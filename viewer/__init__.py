"""The desktop viewer, `ash-studio view`; it exports nothing."""
