"""SVIDs on the wire: the process's own identity, kept current, and TLS made from it."""
