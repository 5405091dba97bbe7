"""What a name tells: which model is meant, in which file, and how that is known."""
