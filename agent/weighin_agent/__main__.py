"""`python -m weighin_agent`: the command by the interpreter it belongs to, as a scheduler starts it."""

from weighin_agent.cli import main

if __name__ == "__main__":
    main()
