"""The toybox's own text-to-image model: its networks, its tokenizer, and the prior made of them."""
