"""Files on disk <-> records: metres and radians from here on."""
