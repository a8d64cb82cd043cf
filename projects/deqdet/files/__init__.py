"""Writing files: complete or not at all, free disk space, tables and figures."""
