"""Writes files: complete or not at all, with a check of free disk space; tables and figures."""
