"""What a user did that cannot work, told in one sentence; and jobs that ended without a result."""


class UserError(Exception):
    """One sentence: what, where, what is allowed, what to do. Commands print it and exit with 2."""


class JobError(Exception):
    """Jobs of a sweep ended without a result, for reasons that its table names. Commands print it and exit with 1."""
