"""The exit codes of the command ``mrq``."""

from mrq.errors import AuthenticationFailed, ConfigurationError, Unavailable

OK, FAILED, USAGE, UNAVAILABLE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130

EPILOG = """\
exit codes:
  0    all is well
  1    it failed; standard error says why
  2    a wrong argument or setting
  3    a server is away: RabbitMQ, ZooKeeper or HDFS
  4    a server refused the username or the password
  130  interrupted

Settings come from --config FILE (TOML), MRQ_* in the environment, and --set name=value; later ones win.
With --json, standard output is one JSON document, {"error": ..., "message": ...} if it failed.
"""


def exit_code(kind: type[BaseException]) -> int:
    """Return the exit code that an error leads to."""
    codes = {ConfigurationError: USAGE, Unavailable: UNAVAILABLE, AuthenticationFailed: REFUSED}
    return next((code for base, code in codes.items() if issubclass(kind, base)), FAILED)
