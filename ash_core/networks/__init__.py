"""The networks: graph networks of the character, U-Nets of the release, our own decoder."""
