"""What happened: events, the tree over them, signed checkpoints, and their verification."""
