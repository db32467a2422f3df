"""Multi-view captures of other laboratories, turned into data sets of ours."""
