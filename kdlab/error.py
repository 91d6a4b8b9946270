"""What a user did that cannot work, told in one sentence."""


class UserError(Exception):
    """One sentence: what, where, what is allowed, what to do. Commands print it and exit with 2."""
