"""A look at a data set before anybody trains on it."""
