"""Footage before training: extract masked images, inspect what is there."""
