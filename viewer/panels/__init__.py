"""One file for each part of the window; each draws from the session and acts through commands."""
