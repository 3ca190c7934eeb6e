"""The `broker` command."""

import sys


def main() -> None:
    """Run the command; its exit codes stand in `broker.cli`."""
    try:
        from broker.cli import broker  # noqa: PLC0415 - a base install has no command line, and says so
    except ModuleNotFoundError as missing:
        sys.exit(f"Error: the command needs {missing.name}: pip install 'spiffe-credential-broker[cli]'")
    broker.main(prog_name="broker")


if __name__ == "__main__":
    main()
