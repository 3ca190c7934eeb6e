"""What they get, and when it ends: grants, tokens, keys, revocations."""
