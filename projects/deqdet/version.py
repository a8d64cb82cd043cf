"""The version. This file imports nothing."""

__version__ = '1.0.0'
