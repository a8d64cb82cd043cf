"""Writing files: free disk space, tables and figures."""
