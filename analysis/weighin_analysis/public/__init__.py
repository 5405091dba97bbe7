"""Other people's measurements: reading them, and how well runs of a device predict them."""
