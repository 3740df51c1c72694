"""The Janus meter: how many faces an object has, in a world whose true poses are known."""
