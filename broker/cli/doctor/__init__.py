"""`broker doctor`: what is wrong with a set-up, from the bottom up, each finding with its fix. It changes nothing."""
