"""What a person types: one module per kind of command, and how a command reaches a server that runs."""
