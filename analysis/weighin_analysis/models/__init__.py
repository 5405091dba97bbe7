"""What a model is: the catalogue of published models, their shapes and their tensors."""
