"""A process that does the pieces it is told to: it reads orders from its input and writes numbers to its output."""

import os
import pickle
import sys

from .base import numbers_of, unpacked


def main() -> None:
    # What the function prints must not get between the numbers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    orders = sys.stdin.buffer
    pieces = unpacked(pickle.load(orders))
    while True:
        try:
            order = pickle.load(orders)
        except EOFError:  # whoever gave orders has gone
            return
        try:
            answer = numbers_of(pieces.piece(order))
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
