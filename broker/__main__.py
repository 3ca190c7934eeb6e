"""The `broker` command."""

from broker.cli import broker


def main() -> None:
    """Run the command; its exit codes stand in `broker.cli`."""
    broker.main(prog_name="broker")


if __name__ == "__main__":
    main()
