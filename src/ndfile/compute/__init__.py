"""Statistics, and work block by block, of arrays that are larger than memory."""
