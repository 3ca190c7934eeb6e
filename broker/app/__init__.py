"""The composition root of the server: the only room that builds it."""
