"""The folder of a snapshot: its views, its facts as values, and how a new one is made."""
