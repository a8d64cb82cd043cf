"""The detector: queries, sampling, mixing, decoder layer, criterion and heads."""
