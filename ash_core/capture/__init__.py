"""The synthetic studio: actors now, filming later."""
