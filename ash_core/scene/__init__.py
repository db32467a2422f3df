"""Everything open and edited and one frame of it, for window, browser, command line, notebook.

Nothing here knows a toolkit, a terminal or a wall clock. `open` imports torch late: `--help` reads
it.
"""
