"""The forms in which a trained classifier leaves kdlab, and how far each computes the same."""
