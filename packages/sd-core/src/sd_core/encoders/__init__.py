"""Models that read pictures and texts, for classifiers and metrics; loaded on first use."""
