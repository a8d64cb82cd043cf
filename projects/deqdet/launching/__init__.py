"""Starting a run: workers on GPUs or CPUs, clusters, options, and errors in plain words."""
