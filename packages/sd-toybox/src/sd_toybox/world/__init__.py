"""The world: toys made of primitives, their pictures, and the captions that go with them."""
