"""What a fleet says: who reaches which size class and tier, and what to ship."""
