"""`broker doctor`: what is wrong with a set-up, from the bottom up, each finding with its fix. It changes nothing."""

from broker.cli.doctor.command import doctor

__all__ = ["doctor"]
