"""Run the commands of a tutorial as a reader types them, and compare what they print with what the page shows.

A page is Markdown, which readers see without any marks:

- A fenced block ``sh`` has commands. All blocks of a page run in one shell, in their order.
- A fenced block ``text`` has the output of the commands before it, of which ``…`` leaves out a part.
- A comment ``<!-- file: NAME -->`` before a block of any other language: the reader saves the block as that file.
- ``<!-- exit: N -->`` before commands: the last one exits with this status instead of 0.
- ``<!-- not run -->`` before commands: they are for the reader only, such as those that need a network.
- ``<!-- run``, commands, ``-->``: these run, and the reader does not see them.
- ``<!-- needs: NAME … -->``: a program or a Python package without which the page cannot run.
- ``<!-- server: NAME -->``: what stands in for a service; see ``servers``.
"""
