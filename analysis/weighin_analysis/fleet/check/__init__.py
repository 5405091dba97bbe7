"""One model on a whole fleet."""
