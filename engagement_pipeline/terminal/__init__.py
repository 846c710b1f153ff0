"""What stands behind the command line: running jobs in this process, reading, and showing.

`cli` names the commands and their options; nothing here parses arguments.
"""
