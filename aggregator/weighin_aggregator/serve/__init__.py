"""What listens: services and their ports, who is let in, and the start and end of a server."""
