"""ASH Studio without a window: characters, decoders, rasterizers, files, the command line."""

__version__ = "0.1.0"
