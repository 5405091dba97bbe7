"""What a model is: the catalogue of published models, their tensors, and what a name tells."""
