"""Source: finds the source of the session's definitions, and writes definitions, imports and values as source."""
