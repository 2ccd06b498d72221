"""Words shared by both planes: the objects that users write, their conditions, their schema."""
