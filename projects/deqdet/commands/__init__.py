"""What the programs of ``tools`` run."""
