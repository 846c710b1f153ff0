"""The only room that speaks DuckDB: opening it, writing whole units of work, publishing.

No rule of engagement belongs here: frames come in already decided, and go out as they are stored.
"""
