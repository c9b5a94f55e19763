"""`python -m stackelberg` is the command `stackelberg`."""

from stackelberg.cli import main

if __name__ == "__main__":
    main()
