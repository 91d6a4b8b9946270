"""Scores of generated text, one a file: the names that ``metric.generation.scores`` takes."""
