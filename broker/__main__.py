"""The `broker` command."""

from broker.cli import broker


def main() -> None:
    """Run the command; exit codes are in docs/cli.md."""
    broker.main(prog_name="broker")


if __name__ == "__main__":
    main()
