"""Asking a guest for its clock, closely."""

import time

from emberkeep_sdk import MicroVM

PROMISED_S = 0.2
_TELL = "import sys, time\nfor _ in sys.stdin: print(repr(time.time()), flush=True)"
_ROUNDS = 10


def off_by(vm: MicroVM) -> float:
    """Return by how many seconds the guest's wall clock is surely off; 0 where it may be right.

    A reading lies between the question and the answer, so the quickest of several rounds bounds
    the error however busy the machine is.
    """
    with vm.start(["python3", "-c", _TELL]) as running:
        answers = iter(running)
        return min(_round(running, answers) for _ in range(_ROUNDS))[1]


def _round(running, answers) -> tuple[float, float]:
    asked = time.time()
    running.write(b"\n")
    _, text = next(answers)
    answered = time.time()
    said = float(text)
    return answered - asked, max(asked - said, said - answered, 0.0)
