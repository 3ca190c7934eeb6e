"""A credential broker for AI agents, on SPIFFE."""
