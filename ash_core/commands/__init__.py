"""The command line: one module and one frozen dataclass per command; its fields are the flags.

Modules here import torch and what needs it inside `run`, so that `--help` answers at once.
"""
