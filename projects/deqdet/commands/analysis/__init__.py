"""Commands that analyse a trained detector: tables, figures, times."""
