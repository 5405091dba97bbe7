"""What the header of a real model file tells: its tensors, their types, and the model that they are."""
