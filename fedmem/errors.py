"""The one exception that a user is meant to read."""


class FedmemError(Exception):
    """A mistake that the user can mend: the message says what is wrong, where, and what to do.

    Commands print the message without a traceback and exit with `EXIT_CODE`.
    """

    EXIT_CODE = 2
