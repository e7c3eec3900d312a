"""The command line: arguments in, settings out, one file a command."""
