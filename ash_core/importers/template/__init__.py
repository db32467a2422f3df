"""Clothed templates: skin weights carried to a scan, and a surface fitted to masks."""
