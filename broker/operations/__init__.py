"""What the broker does: the only code that knows the order of things."""
