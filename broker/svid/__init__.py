"""Who asks: SPIFFE IDs, what a connection presented, and the principal that is proven from it."""
