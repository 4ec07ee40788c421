"""`python -m invsolve` is `invsolve`."""

from invsolve.cli import main

if __name__ == "__main__":
    main(prog_name="invsolve")
