"""Rasterizers of Gaussians."""
