"""The programs behind ``tools``."""
