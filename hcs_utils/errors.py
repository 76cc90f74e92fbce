"""The one error that tells a user what is wrong, where, and what to do."""


class InputError(ValueError):
    """Something the user gave cannot be used: the message says what, where, and how to mend it.

    The command line prints it as one message without a traceback and exits with 2.
    """
