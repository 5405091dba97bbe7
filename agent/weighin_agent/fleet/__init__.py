"""Life in a fleet: identity, the spool, delivery to the aggregator, and what a person can ask about them."""
