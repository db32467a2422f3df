"""Cloth that remembers: loose parts of the template, simulated about the skinned surface.

`model` says what hangs where, `dynamics` moves it by a frame, `track` gives the state of a motion's
frame, `live` goes on from any state, `fit` finds the constants from observed surfaces.
"""
