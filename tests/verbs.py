"""The commands, as kdlab finds them on disk."""

from kdlab.config.verb import verbs

VERBS = [name for name, verb in verbs().items() if verb.composed]
OTHERS = [name for name, verb in verbs().items() if not verb.composed]  # that take the words of a command line
