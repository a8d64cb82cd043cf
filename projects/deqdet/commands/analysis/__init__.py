"""Commands that look at a trained detector: tables, figures, times."""
