"""The command `pruning`. Ctrl-C is one line, also while modules are loaded."""

import sys


def main() -> int:
    """Run the command line; 130 is the exit status of a command that was interrupted."""
    try:
        from pruning import cli

        return cli.main()
    except KeyboardInterrupt:
        print("\npruning: interrupted; the same command continues", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
