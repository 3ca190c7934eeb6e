"""What can go wrong here, in sentences that say what to do next."""


class DeployError(Exception):
    """The deployment cannot do what was asked; the text says what is missing and how to get it."""
