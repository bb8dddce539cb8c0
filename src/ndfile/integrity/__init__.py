"""Whether a file is what it was: hashes of its blocks beside it, and the blocks and rows that differ."""
