"""May they: policy as written becomes policy as compiled, and policy with a question becomes a decision."""
