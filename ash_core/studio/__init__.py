"""The synthetic studio: actors, their clothes and motions, and how they are filmed."""
