"""Camera files of other programs, read to and written from one record."""
