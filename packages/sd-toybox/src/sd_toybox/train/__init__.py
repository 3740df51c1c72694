"""`python -m sd_toybox.train`: the toybox's model, made from nothing, and measured."""
