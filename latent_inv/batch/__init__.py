"""Folders: every picture of a folder to its latents, in this process or on a server.

walk        which files are pictures, and what each result is called
question    what is asked of all of them, checked once, and its hash
workplace   the seam to whoever inverts them: `here` an engine in this thread, `on_server` a client's jobs
run         the loop: look, offer, collect, write down
manifest    manifest.jsonl, a row a file, also after a kill
outputs     files of one result; page: index.html
folder      `invert_folder`, which puts them together
"""

from __future__ import annotations

from .folder import FolderSummary, invert_folder
from .manifest import Row, read_row
from .run import Tally

__all__ = ["FolderSummary", "Row", "Tally", "invert_folder", "read_row"]
