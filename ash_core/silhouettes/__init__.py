"""Silhouettes of people in masks, and what they tell about a surface."""
