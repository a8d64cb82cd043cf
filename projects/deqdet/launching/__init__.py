"""Starts a run: command line, config, workers on GPUs, CPUs or clusters, and errors in one line."""
