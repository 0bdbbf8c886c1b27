"""What runs in the environment of old libraries: a child process that answers over its pipes.

`python DIRECTORY` runs it, this directory being the argument. Nothing in here imports the rest of the project: only the
standard library, NumPy, and the library that is asked for, in versions as old as those libraries need.
"""
