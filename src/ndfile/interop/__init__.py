"""Other libraries, one file each: what they need to take arrays on files as their own. Imported on use."""
