"""`python -m invsolve.cli` is `invsolve`."""

from invsolve.cli.app import main

if __name__ == "__main__":
    main(prog_name="invsolve")
