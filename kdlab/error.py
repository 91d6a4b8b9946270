"""What a user did that cannot work, told in one sentence."""


class UserError(Exception):
    """One sentence: what, where, what is allowed and what to do. Commands print it without a traceback and exit with 2."""
