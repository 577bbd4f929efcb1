"""The command line: parse, call, print. Everything else happens below."""
