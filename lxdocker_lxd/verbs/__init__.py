"""One module a command: typed options in, one use case called, its result rendered."""
