"""The process with the keys and the store, behind one port."""
