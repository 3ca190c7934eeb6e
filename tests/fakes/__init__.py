"""Stand-ins for what the broker needs from outside: an authority that issues anything, and a Workload API."""
