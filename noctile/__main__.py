"""``python -m noctile``."""

from noctile.cli import command

if __name__ == "__main__":
    command()
